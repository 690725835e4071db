// What must not compile, and the sentence that the compiler must say; refused.sh holds them.
#include <klens/klens.hpp>

klens::matrix<float> w(2, 2);
std::vector<klens::layer> layers;
const klens::matrix<double> doubles(2, 2);

// "a forward must return a plain float matrix"
auto expression = [] { return w * w.transpose(); };
const auto a = klens::rank_layers(layers, expression, "int4-channel");
auto double_forward = [](std::size_t) -> klens::matrix<double> { return doubles; };
const auto b = klens::rank_layers(layers, double_forward, "int4-channel");

// "this is no forward"
const auto c = klens::rank_layers(layers, 7, "int4-channel");

// "a staged forward needs: void advance(state&, std::size_t stage)"
struct wrong_advance {
  std::size_t stages();
  int begin(std::size_t);
  void advance(int&);
  klens::matrix<float> logits(const int&);
};
wrong_advance no_stage;
const auto d = klens::rank_layers(layers, no_stage, "int4-channel");

// "the forward's cost must be: double cost(std::size_t stage)"
struct wrong_cost {
  std::size_t stages();
  int begin(std::size_t);
  void advance(int&, std::size_t);
  klens::matrix<float> logits(const int&);
  double cost();
};
wrong_cost priceless;
const auto e = klens::rank_layers(layers, priceless, "int4-channel");

// "the forward's residual must be"
struct wrong_residual {
  std::size_t stages();
  int begin(std::size_t);
  void advance(int&, std::size_t);
  klens::matrix<float> logits(const int&);
  double residual(int&);
};
wrong_residual streamless;
const auto f = klens::rank_layers(layers, streamless, "int4-channel");

// "these weights are column-major", "this matrix is gone", "views weights that it can write", "say what these 16 bits are"
Eigen::MatrixXf columns(2, 2);
klens::layer g{"g", columns};
klens::layer h{"h", klens::matrix<float>(2, 2)};
const klens::matrix<float> fixed(2, 2);
klens::layer i{"i", fixed};
std::uint16_t bits[4];
klens::layer j{"j", bits, 2, 2};
double* wide = nullptr;
klens::layer k{"k", wide, 2, 2};

// "logits and weights are float, klens::half or klens::bfloat16"
const auto q = klens::measure(doubles, doubles, klens::kl{});

// "a forward with positions(const state&) also needs logits"
struct wrong_rows : wrong_advance {
  void advance(int&, std::size_t);
  std::size_t positions(const int&);
};
wrong_rows rowless;
const auto r = klens::rank_layers(layers, rowless, "int4-channel");

// "a quantizer's stores must be: bool stores(std::size_t columns) const"
struct odd_stores {
  std::string name() const { return "odd"; }
  std::size_t bytes(std::size_t columns) const { return columns; }
  void round_trip(std::span<const float>, std::span<float>) const {}
  bool stores() const { return true; }
};
klens::scheme s = odd_stores{};

// "a metric's finish must be", "a stopping rule's doubts_of must be", "a progress callback returns bool"
struct odd_finish {
  static constexpr const char *name = "odd", *unit = "";
  static constexpr bool higher_is_worse = true;
  double operator()(const klens::position&) const { return 0; }
  double finish() const { return 0; }
};
klens::any_metric l = odd_finish{};
struct odd_doubts {
  std::vector<klens::standing> operator()(const klens::look& at) const { return {at.standings.begin(), at.standings.end()}; }
  std::string name() const { return "odd"; }
  klens::doubts doubts_of(double) const { return {}; }
};
klens::any_stopping_rule m = odd_doubts{};
klens::progress_callback n = [](const klens::scan_progress&) { return std::string{}; };

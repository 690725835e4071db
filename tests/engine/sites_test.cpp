// What a model keeps while it runs, stored otherwise than as floats, beside plain loops that share no code with klens.
#include "engine/model.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <klens/io/safetensors.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/site.hpp>
#include <klens/weight_guard.hpp>
#include <set>
#include <string>
#include <string_view>

#include "engine/linear.hpp"
#include "engine/recurrence.hpp"
#include "folders.hpp"

using klens::site_kind;
using support::golden;

namespace {

constexpr site_kind at_run_time[] = {site_kind::activations, site_kind::kv, site_kind::state, site_kind::conv};

/// int4-channel-f32 of a vector: absmax, codes -7 .. 7, a float scale.
void plain_int4(float* first, std::size_t count) {
  float largest = 0;
  for (std::size_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(first[i]));
  const float scale = largest / 7;
  for (std::size_t i = 0; i < count && largest > 0; ++i) first[i] = std::nearbyint(first[i] / scale) * scale;
}

/// A state [states x channels]: every vector is `columns` values, channel after channel with all of its states.
void plain_state(klens::matrix_ref<float> state, std::size_t columns) {
  const auto states = static_cast<std::size_t>(state.rows());
  const Eigen::Index channels = static_cast<Eigen::Index>(columns / states);
  for (Eigen::Index first = 0; first < state.cols(); first += channels) {
    std::vector<float> vector;
    for (Eigen::Index c = first; c < first + channels; ++c)
      for (Eigen::Index n = 0; n < state.rows(); ++n) vector.push_back(state(n, c));
    plain_int4(vector.data(), vector.size());
    for (Eigen::Index c = first, i = 0; c < first + channels; ++c)
      for (Eigen::Index n = 0; n < state.rows(); ++n) state(n, c) = vector[static_cast<std::size_t>(i++)];
  }
}

struct golden_model {
  programs::model model;
  std::vector<std::int32_t> tokens;
  explicit golden_model(const std::filesystem::path& folder) : model{programs::model::load(folder)} {
    tokens = support::some_tokens(model, 19);
  }
  [[nodiscard]] klens::matrix<float> logits() const { return support::forward(model, tokens, 1); }
};

std::vector<std::filesystem::path> folders() {
  std::vector<std::filesystem::path> all;
  for (const auto& parent : {golden, golden / "variants"})
    for (const auto& each : std::filesystem::directory_iterator{parent})
      if (std::filesystem::exists(each.path() / "config.json") && each.path().filename() != "mambavision")
        all.push_back(each.path());
  std::ranges::sort(all);
  return all;
}

double largest_difference(const klens::matrix<float>& a, const klens::matrix<float>& b) {
  return static_cast<double>((a - b).cwiseAbs().maxCoeff());
}
bool same_bits(const klens::matrix<float>& a, const klens::matrix<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

/// The past of a part after the whole sequence, or one token at a time with `between` called after each.
template <class Between>
klens::matrix<float> token_by_token(const golden_model& of, const Between& between) {
  const std::size_t length = of.tokens.size();
  klens::matrix<float> found(static_cast<Eigen::Index>(length), static_cast<Eigen::Index>(of.model.vocabulary()));
  programs::state at = of.model.begin(std::span(of.tokens).first(1), 1, 1);
  at.before.resize(1);
  for (std::size_t position = 0;; ++position) {
    for (std::size_t stage = 0; stage < of.model.stages(); ++stage) of.model.advance(at, stage);
    found.row(static_cast<Eigen::Index>(position)) = of.model.logits(at).row(0);
    if (position + 1 == length) return found;
    between(at.before.front());
    at = of.model.go_on(std::move(at), std::span(of.tokens).subspan(position + 1, 1));
  }
}

/// The layer of something kept.
klens::layer layer_of(const programs::model& model, const programs::placed_vectors& kept) {
  for (klens::layer& each : model.sites(std::span(&kept.kind, 1), {}))
    if (each.name == kept.name) return each;
  FAIL("no site " << kept.name);
  throw;
}

/// Hymba without the rows that stand before every sequence: a loop over tokens cannot store anything between those.
class hymba_without_memory {
 public:
  [[nodiscard]] const std::filesystem::path& path() const { return folder_.path(); }

 private:
  support::changed_folder folder_{golden / "hymba", [](nlohmann::json& fields) { fields["num_memory_tokens"] = 0; },
                                  [](std::vector<klens::stored_tensor>& tensors) {
                                    std::erase_if(tensors, [](const auto& each) { return each.name == "model.memory_tokens"; });
                                  }};
};

}  // namespace

TEST_CASE("a recurrent state and a convolution's last inputs: as a loop over tokens that stores them in between") {
  std::set<site_kind> seen;
  const hymba_without_memory hymba;
  for (std::filesystem::path folder : folders()) {
    if (folder.filename() == "hymba") folder = hymba.path();
    const golden_model of{folder};
    if (folder.filename().string().find("longrope") != std::string::npos ||
        folder.filename().string().find("dynamic") != std::string::npos)
      continue;  // their frequencies depend on the whole length
    const klens::matrix<float> untouched = token_by_token(of, [](programs::past&) {});
    for (const programs::placed_vectors& kept : of.model.kept()) {
      if (kept.kind == site_kind::kv) continue;
      INFO(folder.string(), " ", kept.name);
      klens::layer site = layer_of(of.model, kept);
      klens::weight_guard guard{site};
      (void)guard.apply("int4-channel-f32");
      REQUIRE(guard.changed());
      const klens::matrix<float> found = of.logits(), stepped = token_by_token(of, [](programs::past&) {});
      guard.restore();
      const klens::matrix<float> expected = token_by_token(of, [&](programs::past& before) {
        for (klens::matrix<float>* const each : before.states_of(kept.part, kept.kind == site_kind::conv)) {
          if (kept.kind == site_kind::conv) {
            plain_int4(each->row(each->rows() - 1).data(), kept.columns);
            continue;
          }
          // gated delta nets keep one memory a head below one another, all others one state
          const Eigen::Index all = each->size() / static_cast<Eigen::Index>(kept.columns);
          const Eigen::Index blocks =
              each->cols() < static_cast<Eigen::Index>(kept.columns) && kept.name.find("linear_attn") != std::string::npos ? all
                                                                                                                           : 1;
          for (Eigen::Index b = 0; b < blocks; ++b)
            plain_state(each->middleRows(b * each->rows() / blocks, each->rows() / blocks), kept.columns);
        }
      });
      const double damage = largest_difference(expected, untouched);
      CHECK(damage > 0);
      // products of one row round in another order, which moves a value across the middle between two codes now and then
      CHECK(largest_difference(found, expected) <= 0.05 * damage + 4e-5 * static_cast<double>(untouched.cwiseAbs().maxCoeff()));
      CHECK(largest_difference(stepped, expected) <= 1e-6 * static_cast<double>(untouched.cwiseAbs().maxCoeff()));
      seen.insert(kept.kind);
    }
  }
  CHECK(seen == std::set<site_kind>{site_kind::state, site_kind::conv});
}

TEST_CASE("keys and values are kept as a plain loop stores them, and attention reads what is kept") {
  std::size_t count = 0;
  for (const auto& folder : folders()) {
    const golden_model of{folder};
    const auto run = [&] {
      programs::state at = of.model.begin(of.tokens, 1, of.tokens.size());
      at.before.resize(1);
      for (std::size_t stage = 0; stage < of.model.stages(); ++stage) of.model.advance(at, stage);
      return at;
    };
    const klens::matrix<float> untouched = of.logits();
    programs::state plain = run();
    for (const programs::placed_vectors& kept : of.model.kept()) {
      if (kept.kind != site_kind::kv) continue;
      INFO(folder.string(), " ", kept.name);
      klens::layer site = layer_of(of.model, kept);
      klens::weight_guard guard{site};
      (void)guard.apply("int4-channel-f32");
      programs::state stored = run();
      const klens::matrix<float> found = of.logits();
      guard.restore();
      const std::span<float> as_floats = plain.before[0].appended(kept.part, kept.number),
                             as_codes = stored.before[0].appended(kept.part, kept.number);
      std::vector<float> expected(as_floats.begin(), as_floats.end());
      REQUIRE(expected.size() % (kept.vectors * kept.columns) == 0);
      for (std::size_t first = 0; first < expected.size(); first += kept.columns)
        plain_int4(expected.data() + first, kept.columns);
      CHECK(std::ranges::equal(as_codes, expected));
      CHECK(same_bits(of.model.logits(stored), found));
      CHECK(largest_difference(found, untouched) > 0);
      CHECK(same_bits(of.logits(), untouched));
      ++count;
    }
  }
  CHECK(count > 60);
}

TEST_CASE("inputs of a product are stored row by row; sums and biases are not") {
  golden_model of{golden / "variants/qwen2_windows"};
  for (const programs::weight& each : of.model.weights()) {
    if (each.kind != "q_proj") continue;
    const programs::linear product{each.of};
    klens::matrix<float> x = klens::matrix<float>::Random(5, each.columns), y(5, each.rows), expected(5, each.rows);
    klens::matrix<float> plain = x;
    for (Eigen::Index r = 0; r < x.rows(); ++r) plain_int4(plain.row(r).data(), static_cast<std::size_t>(x.cols()));
    product(plain, expected);
    each.of->stores_inputs = programs::input_storage{klens::scheme{"int4-channel-f32"}};
    product(x, y);
    CHECK(same_bits(y, expected));
    klens::matrix<float> sum = klens::matrix<float>::Ones(5, each.rows), expected_sum = sum;
    product.add_to(sum, x, 0.5f);
    each.of->stores_inputs.reset();
    product.add_to(expected_sum, plain, 0.5f);
    CHECK(same_bits(sum, expected_sum));
  }
}

TEST_CASE("keys and values by channel: a loop that stores a group of positions once the last of them is there") {
  constexpr std::size_t group = 4;  // of 19 positions: four full groups, three positions that stay floats
  std::size_t count = 0;
  const hymba_without_memory hymba;
  for (std::filesystem::path folder : folders()) {
    const std::string name = folder.filename().string();
    if (name.find("longrope") != std::string::npos || name.find("dynamic") != std::string::npos) continue;  // see above
    if (name == "hymba") folder = hymba.path();
    const golden_model of{folder};
    const programs::site_options options{.context = 19, .kv_by_channel = group};
    const std::vector<programs::placed_vectors> all_kept = of.model.kept();
    if (std::ranges::any_of(all_kept, [](const auto& each) { return each.read_with != nullptr; })) {
      CHECK_THROWS_AS((void)of.model.sites(at_run_time, options), klens::argument_error);
      continue;
    }
    const klens::matrix<float> untouched = token_by_token(of, [](programs::past&) {});
    for (const programs::placed_vectors& kept : all_kept) {
      if (kept.kind != site_kind::kv) continue;
      INFO(folder.string(), " ", kept.name);
      std::vector<klens::layer> all = of.model.sites(std::span(&kept.kind, 1), options);
      klens::layer& site = *std::ranges::find(all, kept.name, &klens::layer::name);
      CHECK(site.columns() == group);
      const std::size_t seen = kept.positions == 0 ? 19 : std::min<std::size_t>(kept.positions, 19);
      CHECK(site.rows() == kept.vectors * kept.columns * ((seen + group - 1) / group));
      klens::weight_guard guard{site};
      (void)guard.apply("int4-channel-f32");
      const klens::matrix<float> found = of.logits(), stepped = token_by_token(of, [](programs::past&) {});
      guard.restore();
      std::size_t position = 0;
      const klens::matrix<float> expected = token_by_token(of, [&](programs::past& before) {
        if (++position % group != 0) return;
        const std::span<float> rows = before.appended(kept.part, kept.number);
        const std::size_t width = kept.vectors * kept.columns;
        for (std::size_t c = 0; c < width; ++c) {
          float channel[group];
          for (std::size_t p = 0; p < group; ++p) channel[p] = rows[rows.size() - (group - p) * width + c];
          plain_int4(channel, group);
          for (std::size_t p = 0; p < group; ++p) rows[rows.size() - (group - p) * width + c] = channel[p];
        }
      });
      const double damage = largest_difference(expected, untouched);
      CHECK(damage > 0);
      CHECK(largest_difference(found, expected) <= 0.05 * damage + 4e-5 * static_cast<double>(untouched.cwiseAbs().maxCoeff()));
      CHECK(largest_difference(stepped, expected) <= 1e-6 * static_cast<double>(untouched.cwiseAbs().maxCoeff()));
      // what a position gives does not depend on later ones: the first group's last query still reads floats
      CHECK(largest_difference(found.topRows(group), of.logits().topRows(group)) <=
            1e-5 * static_cast<double>(untouched.cwiseAbs().maxCoeff()));
      ++count;
    }
  }
  CHECK(count > 60);
}

TEST_CASE("inputs per tensor: one scale for all tokens of a sequence, of whichever rows the logits are asked") {
  klens::matrix<float> x = klens::matrix<float>::Random(5, 24), expected = x;
  plain_int4(expected.data(), static_cast<std::size_t>(expected.size()));
  programs::input_storage{klens::scheme{"int4-channel-f32"}, true}.apply(x);
  CHECK(largest_difference(x, expected) == 0);  // but for the sign of zeros

  const golden_model of{golden / "jamba"};
  const site_kind kind = site_kind::activations;
  std::vector<klens::layer> all = of.model.sites(std::span(&kind, 1), {.activations_per_tensor = true});
  klens::layer& head = *std::ranges::find(all, "lm_head.inputs", &klens::layer::name);
  CHECK(!head.note.empty());
  std::vector<std::int32_t> two = of.tokens;
  two.insert(two.end(), of.tokens.rbegin(), of.tokens.rend());
  programs::state at = of.model.begin(two, 2, of.tokens.size());
  for (std::size_t stage = 0; stage < of.model.stages(); ++stage) of.model.advance(at, stage);
  klens::weight_guard guard{head};
  (void)guard.apply("int4-channel");
  const klens::matrix<float> whole = of.model.logits(at);
  const std::vector<std::size_t> rows{3, 20, 21, 37};
  const klens::matrix<float> some = of.model.logits(at, rows);
  guard.restore();
  for (std::size_t i = 0; i < rows.size(); ++i)
    CHECK(same_bits(some.row(static_cast<Eigen::Index>(i)), whole.row(static_cast<Eigen::Index>(rows[i]))));
  (void)guard.apply("int4-channel");
  CHECK(same_bits(whole.topRows(19), of.logits()));  // as when the sequence is alone
  guard.restore();
}

TEST_CASE("every site of every model: float changes no bit, four bits change logits, and all is as it was afterwards") {
  std::set<site_kind> seen;
  for (const auto& folder : folders()) {
    const golden_model of{folder};
    const klens::matrix<float> untouched = of.logits();
    std::set<std::string> names;
    std::size_t stage = 0;
    for (klens::layer& site : of.model.sites(at_run_time, {.context = 19})) {
      INFO(folder.string(), " ", site.name);
      CHECK(names.insert(site.name).second);
      CHECK(site.stage >= stage);
      CHECK(site.last_stage >= site.stage);
      CHECK(site.last_stage <= of.model.stages());
      stage = site.stage;
      klens::weight_guard guard{site};
      (void)guard.apply("f32");
      CHECK(!guard.changed());
      CHECK(same_bits(of.logits(), untouched));
      (void)guard.apply("int2-channel");
      CHECK(guard.changed());
      // an expert may see no token, and where all inputs of a conv are 0 nothing is lost
      if (site.kind.find("expert") == std::string::npos) CHECK(!same_bits(of.logits(), untouched));
      guard.restore();
      CHECK(same_bits(of.logits(), untouched));
      seen.insert(site.site);
    }
  }
  CHECK(seen.size() == 4);
}

TEST_CASE("what comes before a site's stage does not change, so a scan may go on there") {
  for (const char* const type : {"jamba", "hymba", "zamba2", "variants/qwen3_next_experts", "lfm2", "mamba2"}) {
    const golden_model of{golden / type};
    for (klens::layer& site : of.model.sites(at_run_time, {})) {
      INFO(type, " ", site.name);
      programs::state at = of.model.begin(of.tokens, 1, of.tokens.size());
      for (std::size_t stage = 0; stage < site.stage; ++stage) of.model.advance(at, stage);
      klens::weight_guard guard{site};
      (void)guard.apply("int3-channel");
      for (std::size_t stage = site.stage; stage < of.model.stages(); ++stage) of.model.advance(at, stage);
      CHECK(same_bits(of.model.logits(at), of.logits()));
    }
  }
}

TEST_CASE("error feedback: nothing is lost for good, so a sum of small steps arrives") {
  // In steps of one, 0.3 is stored as 0 every time; with what was left over it is 0 0 1 0 0 1 ...
  const programs::rounding plain{klens::scheme{"int4-channel-f32"}, 2, false};
  for (const bool feedback : {false, true}) {
    klens::matrix<float> state = (klens::matrix<float>(2, 1) << 7.f, 0.f).finished(), rest = klens::matrix<float>::Zero(2, 1);
    klens::matrix_ref<float> kept = state, left = rest;
    double sum = 0;
    for (int t = 0; t < 30; ++t) {
      state << 7.f, 0.3f;
      programs::store_state(plain, kept, feedback ? &left : nullptr);
      sum += static_cast<double>(state(1, 0));
    }
    CHECK(state(0, 0) == 7.f);
    CHECK(sum == (feedback ? doctest::Approx(9).epsilon(0.06) : doctest::Approx(0)));
  }
}

TEST_CASE("error feedback works in a model as a loop over tokens that keeps the rest") {
  for (const char* const type : {"jamba", "mamba2", "variants/qwen3_5_tied"}) {
    const golden_model of{golden / type};
    const site_kind state = site_kind::state;
    for (klens::layer& site : of.model.sites(std::span(&state, 1), {.error_feedback = true})) {
      INFO(type, " ", site.name);
      const klens::matrix<float> untouched = of.logits();
      klens::weight_guard guard{site};
      (void)guard.apply("int4-channel-f32");
      const klens::matrix<float> found = of.logits(), stepped = token_by_token(of, [](programs::past&) {});
      CHECK(largest_difference(found, stepped) <= 0.05 * largest_difference(found, untouched));
      guard.restore();
    }
  }
}

TEST_CASE("sizes are those of a sequence: positions that a window sees, heads, states, taps") {
  // jamba: 4 query heads on 2 of 12 columns; inner 96, 16 states, 4 taps.
  const golden_model jamba{golden / "jamba"};
  for (const klens::layer& each : jamba.model.sites(at_run_time, {.context = 1000})) {
    INFO(each.name);
    if (each.site == site_kind::kv) CHECK((each.rows() == 2000 && each.columns() == 12));
    if (each.site == site_kind::state) CHECK((each.rows() == 96 && each.columns() == 16));
    if (each.site == site_kind::conv) CHECK((each.rows() == 3 && each.columns() == 96));
    if (each.site == site_kind::activations) CHECK(each.rows() == 1);
  }
  const site_kind kv = site_kind::kv;
  const golden_model windows{golden / "variants/mistral_window"};
  for (const klens::layer& each : windows.model.sites(std::span(&kv, 1), {.context = 100000})) CHECK(each.rows() < 1000);
  CHECK(programs::model::load(golden / "mambavision").sites(at_run_time, {}).empty());
}

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "../activation.hpp"
#include "../causal_conv.hpp"
#include "../common_fields.hpp"
#include "../image_network.hpp"
#include "../model_types.hpp"
#include "../products.hpp"
#include "../selective_scan.hpp"
#include "engine/elementwise.hpp"

// MambaVision (arXiv:2407.08083) classifies images: two levels of convolutions, then two of windows in which Mamba mixers come
// first and attention last.

namespace programs {
namespace {

using matrix = klens::matrix<float>;

/// x * factor + shift for each channel, which stands for (x - mean) / sqrt(variance + epsilon) * weight + bias.
struct batch_norm {
  const parameter *weight = nullptr, *bias = nullptr, *mean = nullptr, *variance = nullptr;
  double epsilon = 1e-5;

  void operator()(klens::matrix_ref<float> x) const {
    const std::span<const float> w = weight->vector(), b = bias->vector(), m = mean->vector(), v = variance->vector();
    for (Eigen::Index c = 0; c < x.cols(); ++c) {
      const auto i = static_cast<std::size_t>(c);
      const double factor = w[i] / std::sqrt(v[i] + epsilon), shift = b[i] - m[i] * factor;
      for (Eigen::Index r = 0; r < x.rows(); ++r) x(r, c) = static_cast<float>(x(r, c) * factor + shift);
    }
  }
};

batch_norm take_batch_norm(checkpoint& tensors, const std::string& name, std::size_t channels, double epsilon = 1e-5) {
  tensors.skip(name + ".num_batches_tracked");
  batch_norm taken{tensors.take(name + ".weight", {channels}), tensors.take(name + ".bias", {channels}),
                   tensors.take(name + ".running_mean", {channels}), tensors.take(name + ".running_var", {channels}), epsilon};
  return taken;
}

/// Mean 0 and variance 1 over each row, then times weight plus bias.
struct layer_norm {
  const parameter *weight = nullptr, *bias = nullptr;

  void operator()(const matrix& x, klens::matrix_ref<float> out) const {
    constexpr double epsilon = 1e-5;
    const std::span<const float> w = weight->vector(), b = bias->vector();
    for (Eigen::Index r = 0; r < x.rows(); ++r) {
      const std::span<const float> in = klens::row(x, r);
      const std::span<float> to = klens::row(out, r);
      double mean = 0, square = 0;
      for (const float each : in) mean += each;
      mean /= static_cast<double>(in.size());
      for (const float each : in) square += (each - mean) * (each - mean);
      const double factor = 1 / std::sqrt(square / static_cast<double>(in.size()) + epsilon);
      for (std::size_t i = 0; i < in.size(); ++i) to[i] = static_cast<float>((in[i] - mean) * factor * w[i] + b[i]);
    }
  }
};

layer_norm take_layer_norm(checkpoint& tensors, const std::string& name, std::size_t channels) {
  return {tensors.take(name + ".weight", {channels}), tensors.take(name + ".bias", {channels})};
}

/// A 3 x 3 convolution with a border of one zero, as a product with the nine places around each one.
struct convolution {
  linear filters;  ///< [out x in * 9]
  std::size_t stride = 1;

  void operator()(const klens::const_matrix_ref<float>& x, image_grid at, klens::matrix_ref<float> out, workspace& work) const {
    const workspace::frame frame{work};
    const auto height = static_cast<Eigen::Index>(at.height), width = static_cast<Eigen::Index>(at.width);
    const auto step = static_cast<Eigen::Index>(stride), columns = (width + step - 1) / step;
    panel around = work.take(out.rows(), filters.in());
    for (Eigen::Index r = 0; r < out.rows(); ++r) {
      const Eigen::Index y = r / columns * step - 1, left = r % columns * step - 1;
      for (Eigen::Index tap = 0; tap < 9; ++tap) {
        const Eigen::Index row = y + tap / 3, column = left + tap % 3;
        const bool inside = row >= 0 && row < height && column >= 0 && column < width;
        for (Eigen::Index c = 0; c < x.cols(); ++c) around(r, 9 * c + tap) = inside ? x(row * width + column, c) : 0.f;
      }
    }
    filters(around, out);
  }
};

convolution take_convolution(checkpoint& tensors, const std::string& name, std::size_t out, std::size_t in, std::size_t stride,
                             bool bias) {
  return {{tensors.take_filters(name + ".weight", out, in, 3, 3), tensors.take_if(bias, name + ".bias", out)}, stride};
}

/// x += gamma * added, channel by channel; without gamma it is 1.
void add(matrix& x, const parameter* gamma, const klens::const_matrix_ref<float>& added) {
  for (Eigen::Index r = 0; r < x.rows(); ++r)
    if (gamma == nullptr)
      kernels::map_elements(
          klens::row(x, r), [](auto sum, auto y) { return sum + y; }, klens::row(x, r), klens::row(added, r));
    else
      kernels::map_elements(
          klens::row(x, r), [](auto sum, auto y, auto g) { return sum + y * g; }, klens::row(x, r), klens::row(added, r),
          gamma->vector());
}

/// Two convolutions of stride 2, each with its norm and a ReLU.
struct stem final : image_step {
  convolution first, second;
  batch_norm first_norm, second_norm;

  void run(matrix& x, image_grid at, workspace& work) const override {
    x = halved(first, first_norm, x, at, work);
    x = halved(second, second_norm, x, at.halved(), work);
  }
  static matrix halved(const convolution& by, const batch_norm& norm, const matrix& x, image_grid at, workspace& work) {
    matrix made(static_cast<Eigen::Index>(at.halved().places()), by.filters.out());
    by(x, at, made, work);
    norm(made);
    made = made.cwiseMax(0.f);
    return made;
  }
  [[nodiscard]] image_grid after(image_grid at) const noexcept override { return at.halved().halved(); }
  [[nodiscard]] double flops(image_grid at) const override {
    return first.filters.flops(at.halved().places()) + second.filters.flops(at.halved().halved().places());
  }
};

struct convolution_block final : image_step {
  convolution first, second;
  batch_norm first_norm, second_norm;
  const parameter* gamma = nullptr;

  void run(matrix& x, image_grid at, workspace& work) const override {
    const workspace::frame frame{work};
    panel inner = work.take(x.rows(), x.cols()), added = work.take(x.rows(), x.cols());
    first(x, at, inner, work);
    first_norm(inner);
    activate(activation::gelu_tanh, all_of(inner));
    second(inner, at, added, work);
    second_norm(added);
    add(x, gamma, added);
  }
  [[nodiscard]] double flops(image_grid at) const override {
    return first.filters.flops(at.places()) + second.filters.flops(at.places());
  }
};

/// How a level cuts its grid, padded with zeros right and below, into windows of size x size; 0: it does not. Within such a level
/// the rows of the hidden matrix go by windows, and by places within each. Padding takes part in everything.
struct windowing {
  std::size_t size = 0;

  [[nodiscard]] std::size_t across(std::size_t length) const noexcept { return (length + size - 1) / size; }
  [[nodiscard]] std::size_t rows(image_grid at) const noexcept {
    return size == 0 ? at.places() : across(at.height) * across(at.width) * size * size;
  }
  /// Calls use(row by windows, row of the grid) for each place that is no padding.
  template <class Use>
  void for_places(image_grid at, const Use& use) const {
    for (std::size_t y = 0; y < at.height; ++y)
      for (std::size_t x = 0; x < at.width; ++x) {
        const std::size_t window = y / size * across(at.width) + x / size;
        use(static_cast<Eigen::Index>((window * size + y % size) * size + x % size),
            static_cast<Eigen::Index>(y * at.width + x));
      }
  }
  [[nodiscard]] matrix cut(const matrix& x, image_grid at) const {
    if (size == 0) return x;
    matrix made = matrix::Zero(static_cast<Eigen::Index>(rows(at)), x.cols());
    for_places(at, [&](Eigen::Index by_window, Eigen::Index place) { made.row(by_window) = x.row(place); });
    return made;
  }
  [[nodiscard]] matrix joined(const matrix& x, image_grid at) const {
    if (size == 0) return x;
    matrix made(static_cast<Eigen::Index>(at.places()), x.cols());
    for_places(at, [&](Eigen::Index by_window, Eigen::Index place) { made.row(place) = x.row(by_window); });
    return made;
  }
};

/// From one level to the next: half the size, twice the channels.
struct downsample final : image_step {
  convolution by;
  windowing from, to;

  void run(matrix& x, image_grid at, workspace& work) const override {
    matrix made(static_cast<Eigen::Index>(at.halved().places()), by.filters.out());
    by(from.joined(x, at), at, made, work);
    x = to.cut(made, at.halved());
  }
  [[nodiscard]] image_grid after(image_grid at) const noexcept override { return at.halved(); }
  [[nodiscard]] double flops(image_grid at) const override { return by.filters.flops(at.halved().places()); }
};

/// x += gamma * part(norm(x)), where `mix` carries out the part on all windows.
struct window_step : image_step {
  layer_norm norm;
  const parameter* gamma = nullptr;
  windowing windows;

  void run(matrix& x, image_grid, workspace& work) const override {
    const workspace::frame frame{work};
    panel normed = work.take(x.rows(), x.cols()), added = work.take(x.rows(), x.cols());
    norm(x, normed);
    mix(normed, added, work);
    add(x, gamma, added);
  }
  virtual void mix(const klens::const_matrix_ref<float>& x, klens::matrix_ref<float> out, workspace& work) const = 0;
  [[nodiscard]] double flops(image_grid at) const override { return mix_flops(windows.rows(at)); }
  [[nodiscard]] virtual double mix_flops(std::size_t rows) const = 0;
  [[nodiscard]] Eigen::Index area() const noexcept { return static_cast<Eigen::Index>(windows.size * windows.size); }
};

struct window_mlp final : window_step {
  linear in, out;

  void mix(const klens::const_matrix_ref<float>& x, klens::matrix_ref<float> to, workspace& work) const override {
    panel inner = work.take(x.rows(), in.out());
    in(x, inner);
    activate(activation::gelu, all_of(inner));
    out(inner, to);
  }
  [[nodiscard]] double mix_flops(std::size_t rows) const override { return in.flops(rows) + out.flops(rows); }
};

/// Softmax attention in which all places of a window see each other.
struct window_attention final : window_step {
  linear qkv, proj;
  std::size_t heads = 1;

  void mix(const klens::const_matrix_ref<float>& x, klens::matrix_ref<float> to, workspace& work) const override {
    const Eigen::Index width = x.cols(), head_width = width / static_cast<Eigen::Index>(heads), rows = area();
    const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(head_width)));
    panel projected = work.take(x.rows(), 3 * width), mixed = work.take(x.rows(), width), scores = work.take(rows, rows);
    qkv(x, projected);
    for (Eigen::Index first = 0; first < x.rows(); first += rows)
      for (Eigen::Index column = 0; column < width; column += head_width) {
        const auto of = [&](Eigen::Index which) { return projected.block(first, which * width + column, rows, head_width); };
        multiply_transposed(of(0), of(1), scores);
        auto result = mixed.block(first, column, rows, head_width);
        std::vector<float> totals(static_cast<std::size_t>(rows));
        for (Eigen::Index r = 0; r < rows; ++r)
          totals[static_cast<std::size_t>(r)] = kernels::exponentials(klens::row(scores, r), scale);
        multiply(scores, of(2), result);
        for (Eigen::Index r = 0; r < rows; ++r) result.row(r) *= 1 / totals[static_cast<std::size_t>(r)];
      }
    proj(mixed, to);
  }
  [[nodiscard]] double mix_flops(std::size_t rows) const override {
    return qkv.flops(rows) + proj.flops(rows) +
           4.0 * static_cast<double>(rows) * static_cast<double>(area()) * static_cast<double>(proj.in());
  }
};

/// A Mamba mixer of half the channels beside the other half, which a convolution alone passes. The convolutions see one place to
/// either side; the scan goes forward, and begins anew in each window.
struct window_mamba final : window_step {
  linear in_proj, x_proj, dt_proj, out_proj;
  const parameter *conv_x = nullptr, *conv_z = nullptr, *a_log = nullptr, *d = nullptr;

  void mix(const klens::const_matrix_ref<float>& x, klens::matrix_ref<float> to, workspace& work) const override {
    const Eigen::Index inner = a_log->values.rows(), states = a_log->values.cols(), rank = dt_proj.in(), length = area();
    panel projected = work.take(x.rows(), 2 * inner), mixed = work.take(x.rows(), 2 * inner);
    panel selected = work.take(x.rows(), rank + 2 * states), step = work.take(x.rows(), inner);
    panel rates = work.take(states, inner);
    in_proj(x, projected);
    auto scanned = mixed.leftCols(inner), passed = mixed.rightCols(inner);
    for (Eigen::Index first = 0; first < x.rows(); first += length) {
      convolve(projected.block(first, 0, length, inner), conv_x, scanned.middleRows(first, length), work);
      convolve(projected.block(first, inner, length, inner), conv_z, passed.middleRows(first, length), work);
    }
    x_proj(scanned, selected);
    dt_proj(selected.leftCols(rank), step);
    step.rowwise() += dt_proj.own_bias();  // the authors' code adds it in the product and again in the scan
    kernels::map_elements(
        all_of(step), [](auto v) { return kernels::softplus(v); }, all_of(step));
    rates = a_log->values.transpose();
    kernels::map_elements(
        all_of(rates), [](auto v) { return -kernels::log2_e * xsimd::exp(v); }, all_of(rates));
    for (Eigen::Index first = 0; first < x.rows(); first += length) {
      auto own = scanned.middleRows(first, length);
      kernels::selective_scan(step.middleRows(first, length), own, rates, selected.block(first, rank, length, states),
                              selected.block(first, rank + states, length, states), d->vector(), own);
    }
    out_proj(mixed, to);
  }

  /// As a causal convolution of three taps, one place later.
  static void convolve(const klens::const_matrix_ref<float>& x, const parameter* conv, klens::matrix_ref<float> to,
                       workspace& work) {
    const workspace::frame frame{work};
    panel taps = work.take(conv->values.cols(), conv->values.rows()), longer = work.take(x.rows() + 1, x.cols()),
          made = work.take(x.rows() + 1, x.cols());
    taps = conv->values.transpose();
    longer.topRows(x.rows()) = x;
    longer.bottomRows(1).setZero();
    kernels::causal_conv(longer, taps, {}, made, [](auto v) { return kernels::silu(v); });
    to = made.bottomRows(x.rows());
  }
  [[nodiscard]] double mix_flops(std::size_t rows) const override {
    return in_proj.flops(rows) + x_proj.flops(rows) + dt_proj.flops(rows) + out_proj.flops(rows);
  }
};

/// The norm, and the mean over the grid.
struct pooling final : image_step {
  batch_norm norm;
  windowing from;

  void run(matrix& x, image_grid at, workspace&) const override {
    matrix all = from.joined(x, at);
    norm(all);
    x = (all.colwise().sum() / static_cast<float>(all.rows())).eval();
  }
  [[nodiscard]] double flops(image_grid) const override { return 0; }
};

constexpr std::size_t levels = 4;

std::vector<std::size_t> counts(const config& fields, const char* name) {
  constexpr double most = 1024;
  std::vector<std::size_t> all;
  for (const double each : fields.numbers(name, {})) {
    if (!(each >= 1 && each <= most && each == std::floor(each)))
      fields.refuse(name, "holds " + std::to_string(each) + "; klens wants whole numbers from 1 to 1024");
    all.push_back(static_cast<std::size_t>(each));
  }
  if (all.size() != levels) fields.refuse(name, "has " + std::to_string(all.size()) + " entries; a level each makes 4");
  return all;
}

std::unique_ptr<image_step> take_window_mixer(checkpoint& tensors, const std::string& prefix, std::size_t width,
                                              std::size_t heads, bool attends, const layer_norm& norm, const parameter* gamma,
                                              windowing windows) {
  if (attends) {
    auto made = std::make_unique<window_attention>();
    made->qkv = take_linear(tensors, prefix + "qkv", 3 * width, width, true,
                            {{"q", 0, width}, {"k", width, width}, {"v", 2 * width, width}});
    made->proj = take_linear(tensors, prefix + "proj", width, width, true);
    made->heads = heads;
    made->norm = norm;
    made->gamma = gamma;
    made->windows = windows;
    return made;
  }
  constexpr std::size_t states = 8, taps = 3;
  const std::size_t inner = width / 2, rank = (width + 15) / 16;
  auto made = std::make_unique<window_mamba>();
  made->in_proj = take_linear(tensors, prefix + "in_proj", width, width, false, {{"x", 0, inner}, {"z", inner, inner}});
  made->conv_x = tensors.take(prefix + "conv1d_x.weight", {inner, 1, taps});
  made->conv_z = tensors.take(prefix + "conv1d_z.weight", {inner, 1, taps});
  made->x_proj = take_linear(tensors, prefix + "x_proj", rank + 2 * states, inner, false,
                             {{"dt", 0, rank}, {"B", rank, states}, {"C", rank + states, states}});
  made->dt_proj = take_linear(tensors, prefix + "dt_proj", inner, rank, true);
  made->a_log = tensors.take(prefix + "A_log", {inner, states});
  made->d = tensors.take(prefix + "D", {inner});
  made->out_proj = take_linear(tensors, prefix + "out_proj", width, width, false);
  made->norm = norm;
  made->gamma = gamma;
  made->windows = windows;
  return made;
}

}  // namespace

architecture build_mambavision(const config& fields, checkpoint& tensors) {
  const std::string prefix = tensors.contains("head.weight") ? "" : "model.";
  const std::size_t dim = fields.count("dim"), in_dim = fields.count("in_dim");
  const std::vector<std::size_t> depths = counts(fields, "depths"), heads = counts(fields, "num_heads"),
                                 sizes = counts(fields, "window_size");
  const double mlp_ratio = fields.number("mlp_ratio", 4);
  const bool scaled = fields.has("layer_scale"), conv_scaled = fields.has("layer_scale_conv");
  if (dim > 65536) fields.refuse("dim", "is " + std::to_string(dim) + "; klens reads up to 65536");
  if (!(mlp_ratio > 0 && mlp_ratio <= 64)) fields.refuse("mlp_ratio", "must be above 0 and at most 64");
  for (std::size_t level = 2; level < levels; ++level) {
    const std::size_t width = dim << level;
    if (width % heads[level] != 0)
      fields.refuse("num_heads", "has " + std::to_string(heads[level]) + " heads for " + std::to_string(width) +
                                     " channels, which they do not divide");
    if (sizes[level] > 64) fields.refuse("window_size", "holds " + std::to_string(sizes[level]) + "; klens takes up to 64");
  }
  (void)fields.number("layer_scale", 1);  // where training began
  (void)fields.number("layer_scale_conv", 1);
  fields.require("in_chans", 3);
  fields.require("qkv_bias", true);
  fields.require("qk_scale", nullptr);
  fields.ignore({"drop_path_rate", "drop_rate", "attn_drop_rate", "num_classes", "resolution"});

  auto network = std::make_unique<image_network>();
  const klens::stored_tensor* const head = tensors.find(prefix + "head.weight");
  const std::size_t classes = head != nullptr && head->shape.size() == 2 ? head->shape[0] : 1, last = dim << (levels - 1);
  network->head = take_linear(tensors, prefix + "head", classes, last, true);
  auto pool = std::make_unique<pooling>();
  pool->norm = take_batch_norm(tensors, prefix + "norm", last);
  pool->from = {sizes.back()};
  network->pool = std::move(pool);

  tensors.begin_stage();
  const std::string down = prefix + "patch_embed.conv_down.";
  auto begin = std::make_unique<stem>();
  begin->first = take_convolution(tensors, down + "0", in_dim, 3, 2, false);
  begin->first_norm = take_batch_norm(tensors, down + "1", in_dim, 1e-4);
  begin->second = take_convolution(tensors, down + "3", dim, in_dim, 2, false);
  begin->second_norm = take_batch_norm(tensors, down + "4", dim, 1e-4);
  network->steps.push_back(std::move(begin));
  const auto windows_of = [&](std::size_t level) { return windowing{level < 2 ? 0 : sizes[level]}; };
  for (std::size_t level = 0; level < levels; ++level) {
    const std::size_t width = dim << level;
    const std::string own = prefix + "levels." + std::to_string(level) + ".";
    for (std::size_t k = 0; k < depths[level]; ++k) {
      const std::string block = own + "blocks." + std::to_string(k) + ".";
      tensors.begin_stage();
      if (level < 2) {
        auto made = std::make_unique<convolution_block>();
        made->first = take_convolution(tensors, block + "conv1", width, width, 1, true);
        made->first_norm = take_batch_norm(tensors, block + "norm1", width);
        made->second = take_convolution(tensors, block + "conv2", width, width, 1, true);
        made->second_norm = take_batch_norm(tensors, block + "norm2", width);
        made->gamma = tensors.take_if(conv_scaled, block + "gamma", width);
        network->steps.push_back(std::move(made));
        continue;
      }
      const bool attends = k >= (depths[level] + 1) / 2;
      const layer_norm before = take_layer_norm(tensors, block + "norm1", width);
      network->steps.push_back(take_window_mixer(tensors, block + "mixer.", width, heads[level], attends, before,
                                                 tensors.take_if(scaled, block + "gamma_1", width), windows_of(level)));
      tensors.begin_stage();
      const auto inner = static_cast<std::size_t>(static_cast<double>(width) * mlp_ratio);
      auto mlp = std::make_unique<window_mlp>();
      mlp->norm = take_layer_norm(tensors, block + "norm2", width);
      mlp->gamma = tensors.take_if(scaled, block + "gamma_2", width);
      mlp->in = take_linear(tensors, block + "mlp.fc1", inner, width, true);
      mlp->out = take_linear(tensors, block + "mlp.fc2", width, inner, true);
      mlp->windows = windows_of(level);
      network->steps.push_back(std::move(mlp));
    }
    if (level + 1 == levels) break;
    tensors.begin_stage();
    auto to_next = std::make_unique<downsample>();
    to_next->by = take_convolution(tensors, own + "downsample.reduction.0", 2 * width, width, 2, false);
    to_next->from = windows_of(level);
    to_next->to = windows_of(level + 1);
    network->steps.push_back(std::move(to_next));
  }
  architecture built;
  built.images = std::move(network);
  return built;
}

}  // namespace programs

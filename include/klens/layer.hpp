#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <klens/detail/weight_view.hpp>
#include <klens/error.hpp>
#include <klens/lent_weights.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/layer_inputs.hpp>
#include <klens/site_kind.hpp>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

namespace detail {
class informed_memory;
}

/// What a layer does in its block, read off its name: "model.layers.0.mamba.x_proj.weight" is an "x_proj".
[[nodiscard]] inline std::string kind_of(std::string_view name) {
  if (name.ends_with(']')) name = name.substr(0, name.rfind('['));
  constexpr std::string_view suffix = ".weight";
  if (name.ends_with(suffix)) name.remove_suffix(suffix.size());
  return std::string{name.substr(name.rfind('.') + 1)};  // npos + 1 is 0: a name without dots is its own kind
}

/// What 16 bits are that an engine keeps as std::uint16_t.
enum class weight_bits { as_fp16, as_bf16 };

/// A weight matrix [out x in] that is quantized as one. It does not own its weights: it views float, fp16 or bf16 memory of the
/// engine's (row-major; rows may lie further apart than their length), or reaches them through a pair of callables.
class layer {
 public:
  using load_function = std::function<void(matrix_ref<float> into)>;
  using store_function = std::function<void(const_matrix_ref<float> from)>;

  std::string name;
  std::string kind;                     ///< for summaries; kind_of(name) unless set
  std::size_t stage = 0;                ///< the first stage of a staged forward that uses the weights; stages() for the head
  std::size_t last_stage = 0;           ///< the last one that does, where that is a later stage (an embedding tied to the head)
  site_kind site = site_kind::weights;  ///< others come into being while the model runs (site.hpp)
  std::vector<std::string> schemes;     ///< names of those that it is ranked under; empty: all
  std::string note;                     ///< printed beside it, e.g. that the weights are tied
  std::shared_ptr<const layer_inputs> inputs;  ///< what its inputs were like, for schemes that ask (gather_inputs); may be null
  std::string restore_failure;  ///< why its weights could not be put back as they were; empty: they are as they were

  /// A view of a row-major matrix of float, half or bfloat16, or of a Map, Ref or block of rows of one:
  ///   klens::layer{"up.weight", up}, klens::layer{"qkv.weight[q]", qkv.topRows(64)}
  template <class Weights>
    requires(std::is_base_of_v<Eigen::DenseBase<std::remove_cvref_t<Weights>>, std::remove_cvref_t<Weights>>)
  layer(std::string of_name, Weights&& weights) : layer{std::move(of_name), detail::weight_view_of(weights), seen{}} {
    static_assert(std::is_lvalue_reference_v<Weights> || !detail::is_plain<std::remove_cvref_t<Weights>>,
                  "klens: a layer does not keep its weights, and this matrix is gone after the statement; give the layer the "
                  "engine's own matrix");
  }

  /// A view of the engine's memory: rows x columns weights, row by row. `stride` counts weights from one row to the next; 0: rows
  /// follow one another.
  layer(std::string of_name, float* weights, std::size_t rows, std::size_t columns, std::size_t stride = 0)
      : layer{std::move(of_name), memory::floats, weights, rows, columns, stride} {}
  layer(std::string of_name, half* weights, std::size_t rows, std::size_t columns, std::size_t stride = 0)
      : layer{std::move(of_name), memory::halves, weights, rows, columns, stride} {}
  layer(std::string of_name, bfloat16* weights, std::size_t rows, std::size_t columns, std::size_t stride = 0)
      : layer{std::move(of_name), memory::bfloats, weights, rows, columns, stride} {}
  /// The same for engines that keep fp16 or bf16 as bits: klens::layer{"w", bits, klens::weight_bits::as_fp16, 64, 64}.
  layer(std::string of_name, std::uint16_t* weights, weight_bits are, std::size_t rows, std::size_t columns,
        std::size_t stride = 0)
      : layer{std::move(of_name),
              are == weight_bits::as_fp16 ? memory::halves : memory::bfloats,
              weights,
              rows,
              columns,
              stride} {}

  template <class Scalar, class... Shape>
    requires(!std::is_same_v<Scalar, float> && !std::is_same_v<Scalar, half> && !std::is_same_v<Scalar, bfloat16>)
  layer(std::string, Scalar*, std::size_t, Shape...) {
    static_assert(!std::is_same_v<Scalar, std::uint16_t>,
                  "klens: say what these 16 bits are: klens::layer{name, pointer, klens::weight_bits::as_fp16 or as_bf16, "
                  "rows, columns}");
    static_assert(std::is_same_v<Scalar, std::uint16_t>,
                  "klens: a layer views float, klens::half (fp16), klens::bfloat16 or uint16_t weights that it can write; for "
                  "others, and for const ones, give a pair of load and store callables");
  }

  /// For engines that keep their weights otherwise. `load` fills a [rows x columns] matrix; `store` puts one back, must be its
  /// exact inverse (what was loaded and stored again leaves the engine as it was) and should not throw when restoring.
  layer(std::string of_name, std::size_t rows, std::size_t columns, load_function load, store_function store)
      : name{std::move(of_name)},
        kind{kind_of(name)},
        rows_{rows},
        columns_{columns},
        memory_{memory::callables},
        callables_{std::make_shared<const callables>(callables{std::move(load), std::move(store)})} {
    expect_weights();
  }

  /// For engines that keep their weights in another form and lend float memory while a layer is changed (lent_weights).
  layer(std::string of_name, std::size_t rows, std::size_t columns, lent_weights weights)
      : name{std::move(of_name)},
        kind{kind_of(name)},
        rows_{rows},
        columns_{columns},
        memory_{memory::lent},
        lent_{std::make_shared<lent_weights>(std::move(weights))} {
    expect_weights();
  }

  [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::size_t columns() const noexcept { return columns_; }

  /// All weights as float, [rows x columns].
  [[nodiscard]] matrix<float> load() const {
    matrix<float> weights(rows_, columns_);
    if (memory_ == memory::callables) {
      std::fill_n(weights.data(), weights.size(),
                  std::numeric_limits<float>::quiet_NaN());  // so that what load leaves out is seen
      callables_->load(weights);
    } else if (memory_ == memory::lent) {
      lent_->load(weights);
    } else {
      for (std::size_t r = 0; r < rows_; ++r) visit_row(r, [&](auto source) { copy_row(source, klens::row(weights, r)); });
    }
    return weights;
  }

  /// Puts weights back. Values that fp16 or bf16 memory cannot hold are rounded by it, as the engine would.
  void store(const_matrix_ref<float> weights) {
    if (memory_ == memory::callables) {
      callables_->store(weights);
    } else if (memory_ == memory::lent) {
      lent_->store(weights, static_cast<Eigen::Index>(rows_), static_cast<Eigen::Index>(columns_));
    } else {
      for (std::size_t r = 0; r < rows_; ++r)
        visit_row(r, [&](auto target) { copy_row(klens::row(weights, static_cast<Eigen::Index>(r)), target); });
    }
  }

  /// True where the weights are these, bit for bit (as float).
  [[nodiscard]] bool holds(const matrix<float>& weights) const {
    if (memory_ == memory::callables) return same_bits(load().data(), weights.data(), rows_ * columns_);
    if (memory_ == memory::lent) return lent_->holds(weights);
    bool same = true;
    std::vector<float> own(columns_);
    for (std::size_t r = 0; r < rows_ && same; ++r) {
      visit_row(r, [&](auto source) { copy_row(source, std::span(own)); });
      same = same_bits(own.data(), klens::row(weights, static_cast<Eigen::Index>(r)).data(), columns_);
    }
    return same;
  }

  /// True where the weights lie in float memory that can be written directly: `floats()`.
  [[nodiscard]] bool is_float_memory() const noexcept { return memory_ == memory::floats; }
  [[nodiscard]] matrix_ref<float> floats() const {
    return Eigen::Map<matrix<float>, 0, Eigen::OuterStride<>>(static_cast<float*>(data_), static_cast<Eigen::Index>(rows_),
                                                              static_cast<Eigen::Index>(columns_),
                                                              Eigen::OuterStride<>(stride_));
  }

  /// The weights where the engine lends memory for them, and keeps its own; null for all other layers.
  [[nodiscard]] lent_weights* lent() const noexcept { return lent_.get(); }

  /// What to tell a reader about restore_failure, and what to do.
  [[nodiscard]] std::string restore_failure_text() const {
    return detail::joined({name, ": its weights are NOT back as they were, because store failed while restoring them (",
                           restore_failure, "); load the model again before you use it"});
  }

 private:
  friend class weight_guard;
  enum class memory { floats, halves, bfloats, callables, lent };
  struct callables {
    load_function load;
    store_function store;
  };

  struct seen {};

  template <class Scalar>
  layer(std::string of_name, matrix_ref<Scalar> weights, seen)
      : layer{std::move(of_name),
              std::is_same_v<Scalar, float>  ? memory::floats
              : std::is_same_v<Scalar, half> ? memory::halves
                                             : memory::bfloats,
              weights.data(),
              static_cast<std::size_t>(weights.rows()),
              static_cast<std::size_t>(weights.cols()),
              static_cast<std::size_t>(weights.outerStride())} {}

  layer(std::string of_name, memory kept_as, void* weights, std::size_t rows, std::size_t columns, std::size_t stride)
      : name{std::move(of_name)},
        kind{kind_of(name)},
        rows_{rows},
        columns_{columns},
        memory_{kept_as},
        data_{weights},
        stride_{static_cast<Eigen::Index>(stride == 0 ? columns : stride)} {
    expect_weights();
    if (data_ == nullptr) detail::refuse<argument_error>({name, ": its weights are at a null pointer"});
    if (rows_ > 1 && stride_ < static_cast<Eigen::Index>(columns_))
      detail::refuse<shape_error>({name, ": rows of ", columns_, " weights cannot lie ", stride,
                                   " apart; the stride counts weights from one row to the next"});
  }

  void expect_weights() const {
    if (rows_ == 0 || columns_ == 0)
      detail::refuse<shape_error>(
          {name, ": a layer needs at least one weight, its shape is ",
           detail::shape_text(static_cast<std::ptrdiff_t>(rows_), static_cast<std::ptrdiff_t>(columns_))});
  }

  template <class Visitor>
  void visit_row(std::size_t index, const Visitor& visit) const {
    const auto at = [&]<class Scalar>(Scalar*) {
      visit(std::span(static_cast<Scalar*>(data_) + static_cast<Eigen::Index>(index) * stride_, columns_));
    };
    if (memory_ == memory::floats) at(static_cast<float*>(nullptr));
    if (memory_ == memory::halves) at(static_cast<half*>(nullptr));
    if (memory_ == memory::bfloats) at(static_cast<bfloat16*>(nullptr));
  }

  [[nodiscard]] static bool same_bits(const float* a, const float* b, std::size_t count) noexcept {
    return std::memcmp(a, b, count * sizeof(float)) == 0;
  }
  template <class From, class To>
  static void copy_row(std::span<From> from, std::span<To> to) {
    for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<To>(from[i]);
  }

  std::size_t rows_ = 0;
  std::size_t columns_ = 0;
  memory memory_;
  void* data_ = nullptr;
  Eigen::Index stride_ = 0;
  std::shared_ptr<const callables> callables_;
  std::shared_ptr<lent_weights> lent_;
  std::shared_ptr<detail::informed_memory> informed_;  // weight_guard's
};

}  // namespace klens

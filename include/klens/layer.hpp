#pragma once

#include <cstddef>
#include <cstring>
#include <functional>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace klens {

/// What a layer does in its block, read off its name: "model.layers.0.mamba.x_proj.weight" is an "x_proj".
[[nodiscard]] inline std::string kind_of(std::string_view name) {
  if (name.ends_with(']')) name = name.substr(0, name.rfind('['));
  constexpr std::string_view suffix = ".weight";
  if (name.ends_with(suffix)) name.remove_suffix(suffix.size());
  return std::string{name.substr(name.rfind('.') + 1)};  // npos + 1 is 0: a name without dots is its own kind
}

/// A weight matrix [out x in] that is quantized as one. It does not own its weights: it views float, fp16 or bf16 memory of the
/// engine's (row-major; rows may lie further apart than their length), or reaches them through a pair of callables.
class layer {
 public:
  using load_function = std::function<void(matrix_ref<float> into)>;
  using store_function = std::function<void(const_matrix_ref<float> from)>;

  std::string name;
  std::string kind;             ///< for summaries; kind_of(name) unless set
  std::size_t stage = 0;        ///< the first stage of a staged forward that uses the weights; stages() for the head
  std::size_t last_stage = 0;   ///< the last one that does, where that is a later stage (an embedding tied to the head)
  std::string note;             ///< printed beside it, e.g. that the weights are tied
  std::string restore_failure;  ///< why its weights could not be put back as they were; empty: they are as they were

  layer(std::string of_name, matrix_ref<float> weights) : layer{std::move(of_name), weights, memory::floats} {}
  layer(std::string of_name, matrix_ref<half> weights) : layer{std::move(of_name), weights, memory::halves} {}
  layer(std::string of_name, matrix_ref<bfloat16> weights) : layer{std::move(of_name), weights, memory::bfloats} {}

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

  [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::size_t columns() const noexcept { return columns_; }

  /// All weights as float, [rows x columns].
  [[nodiscard]] matrix<float> load() const {
    matrix<float> weights(rows_, columns_);
    if (memory_ == memory::callables) {
      callables_->load(weights);
    } else {
      for (std::size_t r = 0; r < rows_; ++r) visit_row(r, [&](auto source) { copy_row(source, klens::row(weights, r)); });
    }
    return weights;
  }

  /// Puts weights back. Values that fp16 or bf16 memory cannot hold are rounded by it, as the engine would.
  void store(const_matrix_ref<float> weights) {
    if (memory_ == memory::callables) {
      callables_->store(weights);
    } else {
      for (std::size_t r = 0; r < rows_; ++r)
        visit_row(r, [&](auto target) { copy_row(klens::row(weights, static_cast<Eigen::Index>(r)), target); });
    }
  }

  /// True where the weights are these, bit for bit (as float).
  [[nodiscard]] bool holds(const matrix<float>& weights) const {
    if (memory_ == memory::callables) return same_bits(load(), weights);
    bool same = true;
    matrix<float> own(1, columns_);
    for (std::size_t r = 0; r < rows_ && same; ++r) {
      visit_row(r, [&](auto source) { copy_row(source, klens::row(own, 0)); });
      same = same_bits(own, weights.row(static_cast<Eigen::Index>(r)));
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

  /// What to tell a reader about restore_failure, and what to do.
  [[nodiscard]] std::string restore_failure_text() const {
    return name + ": its weights are NOT back as they were, because store failed while restoring them (" + restore_failure +
           "); load the model again before you use it";
  }

 private:
  enum class memory { floats, halves, bfloats, callables };
  struct callables {
    load_function load;
    store_function store;
  };

  template <class Weights>
  layer(std::string of_name, Weights& weights, memory kept_as)
      : name{std::move(of_name)},
        kind{kind_of(name)},
        rows_{static_cast<std::size_t>(weights.rows())},
        columns_{static_cast<std::size_t>(weights.cols())},
        memory_{kept_as},
        data_{weights.data()},
        stride_{weights.outerStride()} {
    expect_weights();
  }

  void expect_weights() const {
    if (rows_ == 0 || columns_ == 0)
      throw shape_error{name + ": a layer needs at least one weight, its shape is " +
                        detail::shape_text(static_cast<std::ptrdiff_t>(rows_), static_cast<std::ptrdiff_t>(columns_))};
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

  [[nodiscard]] static bool same_bits(const const_matrix_ref<float>& a, const const_matrix_ref<float>& b) {
    return std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
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
};

}  // namespace klens

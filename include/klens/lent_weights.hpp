#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/quantizer.hpp>
#include <optional>
#include <span>
#include <utility>

namespace klens::inline KLENS_INSTRUCTION_SET {

class scheme;

/// What a candidate did to the weights of a layer.
struct weight_change {
  weight_error error;
  bool differs = false;  ///< whether any bit of them, as float, is another one
};

/// The weights of an engine that keeps them in another form, such as a mapped file of 16-bit floats, and that lends float memory
/// for a while. A candidate then costs one float copy of its layer, and nothing has to be put back.
///   load(first, into)   rows first, first + 1, ... of the engine's own weights as float, whatever is lent
///   lend()              float memory [rows x columns], row-major, that the engine computes with from now on
///   take_back()         the engine's own weights count again; the memory is gone. Must not throw
///   change(scheme, threads)  optional: the engine computes with what the scheme would keep of its own weights from now on, in
///                       whatever form it keeps that (packed, or made a part at a time). No float copy of the layer is then made
class lent_weights {
 public:
  using load_function = std::function<void(Eigen::Index first, matrix_ref<float> into)>;
  using lend_function = std::function<matrix_ref<float>()>;
  using take_back_function = std::function<void()>;
  using change_function = std::function<weight_change(const scheme& storage, std::size_t threads)>;

  lent_weights(load_function load, lend_function lend, take_back_function take_back, change_function change = {})
      : load_{std::move(load)}, lend_{std::move(lend)}, take_back_{std::move(take_back)}, change_{std::move(change)} {}

  /// Rows first, first + 1, ... of what the engine computes with.
  void load(matrix_ref<float> into, Eigen::Index first = 0) const {
    if (lent_)
      for (Eigen::Index r = 0; r < into.rows(); ++r) copy(row(*lent_, first + r), row(into, r));
    else
      load_(first, into);
  }
  /// Makes the engine compute with these.
  void store(const const_matrix_ref<float>& from, Eigen::Index rows, Eigen::Index columns) {
    matrix_ref<float>& to = memory(rows, columns);
    for (Eigen::Index r = 0; r < rows; ++r) copy(row(from, r), row(to, r));
  }
  /// Float memory with the engine's own weights, which it computes with from now on.
  [[nodiscard]] matrix_ref<float> borrow(Eigen::Index rows, Eigen::Index columns) {
    matrix_ref<float> floats = memory(rows, columns);
    load_(0, floats);
    return floats;
  }
  [[nodiscard]] bool changes_itself() const noexcept { return change_ != nullptr; }
  /// Has the engine carry the scheme out, where it does that itself.
  weight_error change(const scheme& storage, std::size_t threads) {
    take_back();
    changed_ = weight_change{};  // a change that fails half-way is taken back as well
    changed_ = change_(storage, threads);
    return changed_->error;
  }
  void take_back() {
    if (!lent_ && !changed_) return;
    lent_.reset();
    changed_.reset();
    take_back_();
  }
  /// True where the weights are these, bit for bit.
  [[nodiscard]] bool holds(const const_matrix_ref<float>& weights) const {
    return matches(weights.rows(), weights.cols(), [&](Eigen::Index r) { return row(weights, r).data(); });
  }
  /// True where what is lent differs from the engine's own weights in any bit.
  [[nodiscard]] bool differs() const {
    if (changed_) return changed_->differs;
    if (!lent_) return false;
    matrix<float> own(1, lent_->cols());
    return !matches(lent_->rows(), lent_->cols(), [&](Eigen::Index r) {
      load_(r, own);
      return std::as_const(own).data();
    });
  }

 private:
  static void copy(std::span<const float> from, std::span<float> to) { std::copy(from.begin(), from.end(), to.begin()); }
  matrix_ref<float>& memory(Eigen::Index rows, Eigen::Index columns) {
    if (!lent_) {
      lent_.emplace(lend_());
      if (lent_->rows() != rows || lent_->cols() != columns) {
        const auto shape = detail::shape_text(lent_->rows(), lent_->cols());
        take_back();
        throw shape_error{"the engine lends " + shape + " weights for a layer of " + detail::shape_text(rows, columns)};
      }
    }
    return *lent_;
  }
  [[nodiscard]] bool matches(Eigen::Index rows, Eigen::Index columns, const auto& row_of) const {
    matrix<float> now(1, columns);
    for (Eigen::Index r = 0; r < rows; ++r) {
      load(now, r);
      if (std::memcmp(now.data(), row_of(r), static_cast<std::size_t>(columns) * sizeof(float)) != 0) return false;
    }
    return true;
  }

  load_function load_;
  lend_function lend_;
  take_back_function take_back_;
  change_function change_;
  std::optional<matrix_ref<float>> lent_;
  std::optional<weight_change> changed_;
};

}  // namespace klens

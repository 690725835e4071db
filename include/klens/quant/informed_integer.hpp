#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/detail/integer_fit.hpp>
#include <klens/quant/detail/integer_rows.hpp>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/informed.hpp>
#include <klens/quant/integer.hpp>
#include <klens/quant/layer_inputs.hpp>
#include <klens/quant/quantizer.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {
namespace detail {

/// What informed integers have in common: rows, codes and scales are those of a plain scheme.
template <class Policy>
struct informed_integer {
  integer_rows rows;

  [[nodiscard]] std::string stored_as() const { return rows.name(); }
  [[nodiscard]] std::string name() const { return rows.name() + Policy::suffix; }
  [[nodiscard]] scheme_parts parts() const noexcept { return rows.parts(); }
  [[nodiscard]] std::size_t bytes(std::size_t columns) const noexcept { return rows.bytes(columns); }

  /// A plain scheme's name and the suffix.
  [[nodiscard]] static std::optional<Policy> from_name(std::string_view name) {
    constexpr std::string_view suffix = Policy::suffix;
    if (!name.ends_with(suffix)) return std::nullopt;
    const auto rows = integer_rows::from_name(name.substr(0, name.size() - suffix.size()));
    return rows ? std::optional{Policy{{*rows}}} : std::nullopt;
  }

  weight_error round_trip(std::span<const float> weights, std::span<float> kept, const auto& known) const {
    expect_length(*this, "kept", kept.size(), weights.size());
    const integer_row stored = std::move(coded(one_row(weights), known).front());
    weight_error error;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const float value = stored.kept(i);
      const double weight = weights[i], change = value - weight;
      error += {weight * weight, change * change};
      kept[i] = value;
    }
    return error;
  }
  void pack(std::span<const float> weights, std::span<std::byte> packed, const auto& known) const {
    expect_length(*this, "packed", packed.size(), bytes(weights.size()));
    coded(one_row(weights), known).front().pack(packed);
  }
  void pack_rows(const const_matrix_ref<float>& weights, std::span<std::byte> packed, const auto& known) const {
    const std::size_t row_bytes = bytes(static_cast<std::size_t>(weights.cols()));
    expect_length(*this, "packed", packed.size(), static_cast<std::size_t>(weights.rows()) * row_bytes);
    const std::vector<integer_row> stored = coded(weights, known);
    for (std::size_t r = 0; r < stored.size(); ++r) stored[r].pack(packed.subspan(r * row_bytes, row_bytes));
  }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const { checked_unpack(rows, packed, kept); }

 private:
  [[nodiscard]] static const_matrix_ref<float> one_row(std::span<const float> weights) {
    return Eigen::Map<const matrix<float>>(weights.data(), 1, static_cast<Eigen::Index>(weights.size()));
  }
  [[nodiscard]] std::vector<integer_row> coded(const const_matrix_ref<float>& weights, const auto& known) const {
    for (Eigen::Index r = 0; r < weights.rows(); ++r) expect_finite_row(rows, row(weights, r));
    std::vector<integer_row> stored(static_cast<std::size_t>(weights.rows()),
                                    integer_row{rows, static_cast<std::size_t>(weights.cols())});
    static_cast<const Policy&>(*this).code(weights, known, stored);
    return stored;
  }
};

}  // namespace detail

/// Integers whose scales (and zero points) are chosen for what the layer's inputs make of the errors: of each group the ones with
/// the least sum over its weights of E[x_i^2] (kept_i - w_i)^2. Codes are the nearest ones. "int4-g64-imp", "int3-asym-channel-imp".
/// Storage    as the plain scheme of that name without -imp, which unpacks it.
/// Edges      Columns whose inputs were always 0 count for nothing; a group of such columns is fitted as if all counted alike. The
///            sum is never larger than that of the plain scheme.
/// Throws     as the plain scheme; shape_error where the row is not as long as the inputs.
/// Cost       about 30 passes over a row (90 for asym, 60 for signed).
/// Result     the same bits for any number of threads; on other instruction sets scales may differ where two are nearly as good.
struct importance_integer : detail::informed_integer<importance_integer> {
  static constexpr const char* suffix = "-imp";
  static constexpr const char* grammar = "an int scheme with -imp";

  void code(const const_matrix_ref<float>& weights, const layer_inputs& inputs, std::span<detail::integer_row> stored) const {
    detail::integer_fit fit{rows};
    const std::span importance{inputs.mean_squares};
    for (std::size_t r = 0; r < stored.size(); ++r) {
      const std::span<const float> from = row(weights, static_cast<Eigen::Index>(r));
      const std::size_t group = stored[r].group_size();
      for (std::size_t first = 0; first < from.size(); first += group) {
        const std::size_t count = std::min(group, from.size() - first);
        stored[r].set_levels(first / group, fit(from.subspan(first, count), importance.subspan(first, count)));
        for (std::size_t i = first; i < first + count; ++i) stored[r].set(i, from[i]);
      }
    }
  }
};

/// Integers by GPTQ: columns are coded from first to last, and what coding one of them does to the layer's output is taken back, as
/// far as it goes, by the columns that are still to come. Scales are those of importance_integer, fitted to the weights as they are
/// when their group begins, with what is left of each column's inputs once the later ones have done their part. "int4-g64-gptq".
///   H = E[x x^T] + damping mean(diag H) I; columns whose inputs were always 0 have only the mean of the diagonal in H
/// Storage    as the plain scheme of that name without -gptq, which unpacks it.
/// Throws     as the plain scheme; numeric_error where H has no Cholesky decomposition even with a hundred times the damping.
/// Cost       in^3 once a layer and in^2 a row, in blocks of columns: 2048 x 2048 in seconds on one core (docs/plans.md). Memory:
///            5 floats for each pair of columns while it prepares, then one.
/// Result     the same bits for any number of threads, not on all instruction sets.
/// Source     Frantar et al., arXiv 2210.17323.
struct gptq_integer : detail::informed_integer<gptq_integer> {
  static constexpr const char* suffix = "-gptq";
  static constexpr const char* grammar = "or with -gptq";
  static constexpr input_need needs = input_need::second_moments;

  double damping = 0.01;

  /// What the columns after each one do for it.
  struct factor {
    matrix<float> shares;           ///< [in x in] above the diagonal: how much of an error of column i column j takes on
    std::vector<float> importance;  ///< what an error of column i costs after that
  };
  [[nodiscard]] factor prepare(const layer_inputs& inputs) const;

  void code(const const_matrix_ref<float>& weights, const factor& known, std::span<detail::integer_row> stored) const;

 private:
  static void take_back(matrix<float>& now, const matrix<float>& errors, const matrix<float>& shares, Eigen::Index first,
                        Eigen::Index last);
};

inline gptq_integer::factor gptq_integer::prepare(const layer_inputs& inputs) const {
  // With the order of columns reversed, H = L L^T. Reversed again L is upper triangular, and its inverse U has H^-1 = U^T U.
  const Eigen::Index n = inputs.second_moments.rows();
  Eigen::MatrixXd moments = inputs.second_moments.cast<double>().reverse();
  const double mean = n == 0 ? 0 : moments.diagonal().mean();
  if (!(mean >= 0 && mean < INFINITY))
    throw numeric_error{name() + ": the second moments of the layer's inputs are not finite; gather them again"};
  const double usual = mean > 0 ? mean : 1;
  for (Eigen::Index i = 0; i < n; ++i)
    if (moments(i, i) <= 0) {
      moments.row(i).setZero();
      moments.col(i).setZero();
      moments(i, i) = usual;
    }
  Eigen::LLT<Eigen::MatrixXd> decomposition;
  for (double more = damping; more <= 100 * damping; more *= 10) {
    Eigen::MatrixXd damped = moments;
    damped.diagonal().array() += more * usual;
    decomposition.compute(damped);
    if (decomposition.info() == Eigen::Success) break;
  }
  if (decomposition.info() != Eigen::Success)
    throw numeric_error{name() +
                        ": the second moments of the layer's inputs are no positive matrix; gather them again, on more text"};
  moments.setIdentity();
  decomposition.matrixL().solveInPlace(moments);
  factor known{matrix<float>(n, n), std::vector<float>(static_cast<std::size_t>(n))};
  for (Eigen::Index i = 0; i < n; ++i) {
    const double own = moments(n - 1 - i, n - 1 - i);
    known.importance[static_cast<std::size_t>(i)] = static_cast<float>(1 / (own * own));
    for (Eigen::Index j = 0; j < n; ++j)
      known.shares(i, j) = j <= i ? 0.0f : static_cast<float>(moments(n - 1 - i, n - 1 - j) / own);
  }
  return known;
}

/// The errors of columns first .. last, to all later ones. Each weight takes them in the order of the columns, so that the bits do
/// not depend on how many rows there are.
inline void gptq_integer::take_back(matrix<float>& now, const matrix<float>& errors, const matrix<float>& shares,
                                    Eigen::Index first, Eigen::Index last) {
  constexpr Eigen::Index at_once = 512;  // columns: their shares stay in the second cache while all rows take them
  for (Eigen::Index from = last; from < now.cols(); from += at_once) {
    const Eigen::Index count = std::min(at_once, now.cols() - from);
    for (Eigen::Index r = 0; r < now.rows(); ++r) {
      float* const own = &now(r, from);
      Eigen::Index i = first;
      for (; i + 4 <= last; i += 4) {
        const float *const a = &shares(i, from), *const b = a + shares.cols(), *const c = b + shares.cols(),
                           *const d = c + shares.cols();
        const float* const e = &errors(r, i - first);
        for (Eigen::Index j = 0; j < count; ++j) own[j] = own[j] - e[0] * a[j] - e[1] * b[j] - e[2] * c[j] - e[3] * d[j];
      }
      for (; i < last; ++i) {
        const float* const a = &shares(i, from);
        for (Eigen::Index j = 0; j < count; ++j) own[j] -= errors(r, i - first) * a[j];
      }
    }
  }
}

inline void gptq_integer::code(const const_matrix_ref<float>& weights, const factor& known,
                               std::span<detail::integer_row> stored) const {
  if (weights.size() == 0) return;
  detail::integer_fit fit{rows};
  const Eigen::Index columns = weights.cols(), row_count = weights.rows();
  const auto group = static_cast<Eigen::Index>(stored.front().group_size());
  constexpr Eigen::Index usual_block = 128;
  // A block holds whole groups, so that a scale is fitted to weights that all earlier columns have moved.
  const Eigen::Index block = group >= columns ? usual_block : group >= usual_block ? group : usual_block / group * group;
  matrix<float> now = weights, errors(row_count, block);
  const std::span<const float> importance{known.importance};
  for (Eigen::Index first = 0; first < columns; first += block) {
    const Eigen::Index last = std::min(columns, first + block);
    for (Eigen::Index r = 0; r < row_count; ++r) {
      const std::span<float> own = row(now, r);
      detail::integer_row& into = stored[static_cast<std::size_t>(r)];
      for (Eigen::Index i = first; i < last; ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (i % group == 0) {
          const auto count = static_cast<std::size_t>(std::min(group, columns - i));
          into.set_levels(static_cast<std::size_t>(i / group), fit(own.subspan(at, count), importance.subspan(at, count)));
        }
        const float error = errors(r, i - first) = own[at] - into.set(at, own[at]);
        const Eigen::Index later = last - i - 1;
        now.row(r).segment(i + 1, later) -= error * known.shares.row(i).segment(i + 1, later);
      }
    }
    take_back(now, errors, known.shares, first, last);
  }
}

static_assert(informed_quantizer<importance_integer> && informed_quantizer<gptq_integer>);

/// The informed forms of an integer scheme: klens::with_importance(klens::int4{.group_size = 64}).
template <int Bits, grid Grid>
[[nodiscard]] importance_integer with_importance(const integer<Bits, Grid>& plain) {
  return {{plain.rows()}};
}
template <int Bits, grid Grid>
[[nodiscard]] gptq_integer with_gptq(const integer<Bits, Grid>& plain, double damping = 0.01) {
  return {{plain.rows()}, damping};
}

}  // namespace klens

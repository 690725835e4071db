#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <klens/detail/as_floats.hpp>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/parallel_for.hpp>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/metric/compare_rows.hpp>
#include <klens/metric/metric.hpp>
#include <klens/metric/totals.hpp>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

struct measure_options {
  std::span<const std::int32_t> next_tokens = {};  ///< the token that follows each position, -1 where none does; empty: nowhere
  std::size_t first_position = 0;                  ///< the number of the first row, where a set comes in parts
  std::size_t threads = 1;                         ///< the result does not depend on it
};

namespace detail {

template <metric Metric>
[[nodiscard]] consteval row_sums needs_of() {
  if constexpr (requires { Metric::needs; })
    return Metric::needs;
  else
    return row_sums::none;
}

template <metric... Metrics>
[[nodiscard]] std::string names_of() {
  std::string names;
  ((names += (names.empty() ? "" : ", ") + std::string{Metrics::name}), ...);
  return names;
}

/// `names` are the metrics', for messages.
[[gnu::cold, gnu::noinline]] inline void expect_comparable(std::string (*names)(), Eigen::Index rows, Eigen::Index columns,
                                                           Eigen::Index observed_rows, Eigen::Index observed_columns,
                                                           std::span<const std::int32_t> next_tokens) {
  if (rows != observed_rows || columns != observed_columns)
    refuse<shape_error>(
        {names(), ": reference is ", shape_text(rows, columns), ", observed is ", shape_text(observed_rows, observed_columns)});
  if (rows == 0 || columns == 0)
    refuse<shape_error>({names(), ": logits are ", shape_text(rows, columns), "; give at least 1x1"});
  if (next_tokens.empty()) return;
  if (next_tokens.size() != static_cast<std::size_t>(rows))
    refuse<shape_error>({names(), ": logits are ", shape_text(rows, columns), ", next_tokens has ", std::ssize(next_tokens),
                         " entries; give one for each row"});
  for (std::size_t t = 0; t < next_tokens.size(); ++t)
    if (next_tokens[t] < -1 || next_tokens[t] >= columns)
      refuse<argument_error>(
          {names(), ": next token ", next_tokens[t], " at row ", t, " is outside the vocabulary of ", columns});
}

[[noreturn, gnu::cold, gnu::noinline]] inline void refuse_position(std::size_t position, const char* reason) {
  refuse<numeric_error>({"position ", position, ": ", reason});
}
[[noreturn, gnu::cold, gnu::noinline]] inline void refuse_nan(std::string (*names)()) {
  refuse<numeric_error>({names(), ": a metric is NaN"});
}

}  // namespace detail

/// Several metrics over two matrices of raw logits, in one read of each row.
///   measure(reference, observed, {.next_tokens = next}, kl{}, sqnr{})  ->  std::tuple<totals<kl>, totals<sqnr>>
/// Shapes     [positions x vocabulary] both, at least 1x1; row-major, float, half or bfloat16 each (converted one row at a time;
///            Eigen copies what is not row-major).
/// Throws     shape_error; argument_error for a next token outside the vocabulary; numeric_error, naming the position, for
///            logits that compare_rows refuses and for a metric that is NaN.
template <class Reference, class Observed, metric... Metrics>
  requires(sizeof...(Metrics) > 0)
[[nodiscard]] std::tuple<totals<Metrics>...> measure(const Eigen::DenseBase<Reference>& reference_logits,
                                                     const Eigen::DenseBase<Observed>& observed_logits,
                                                     const measure_options& options, const Metrics&... metrics) {
  const const_matrix_ref<typename Reference::Scalar> reference{reference_logits.derived()};
  const const_matrix_ref<typename Observed::Scalar> observed{observed_logits.derived()};
  detail::expect_comparable(detail::names_of<Metrics...>, reference.rows(), reference.cols(), observed.rows(), observed.cols(),
                            options.next_tokens);
  constexpr row_sums needs = (detail::needs_of<Metrics>() | ...);

  const auto rows = static_cast<std::size_t>(reference.rows());
  std::vector<std::array<contribution, sizeof...(Metrics)>> measured(rows);
  const auto measure_row = [&](std::size_t t, std::vector<float>& x_buffer, std::vector<float>& y_buffer) {
    const auto x = detail::as_floats(row(reference, static_cast<Eigen::Index>(t)), x_buffer);
    const auto y = detail::as_floats(row(observed, static_cast<Eigen::Index>(t)), y_buffer);
    const row_damage damage = detail::compare_rows_for<needs>(x, y, describe_reference(x));
    position here{x, y, std::nullopt, damage};
    if (!options.next_tokens.empty() && options.next_tokens[t] >= 0)
      here.next_token = static_cast<std::size_t>(options.next_tokens[t]);
    measured[t] = {contribution{metrics(here)}...};
    for (const contribution& each : measured[t])
      if (detail::is_nan(each.value)) detail::refuse_nan(detail::names_of<Metrics...>);
  };
  constexpr std::size_t rows_at_once = 16;
  detail::parallel_for(options.threads, (rows + rows_at_once - 1) / rows_at_once, [&](std::size_t part) {
    std::vector<float> x_buffer, y_buffer;
    for (std::size_t t = part * rows_at_once; t < std::min(rows, (part + 1) * rows_at_once); ++t) {
      try {
        measure_row(t, x_buffer, y_buffer);
      } catch (const numeric_error& caught) {
        detail::refuse_position(options.first_position + t, caught.what());
      }
    }
  });

  std::tuple<totals<Metrics>...> sums{totals<Metrics>{metrics}...};
  for (std::size_t t = 0; t < rows; ++t) {
    const auto add_to = [&]<std::size_t... I>(std::index_sequence<I...>) {
      (std::get<I>(sums).add(measured[t][I], options.first_position + t), ...);
    };
    add_to(std::index_sequence_for<Metrics...>{});
  }
  return sums;
}

template <class Reference, class Observed, metric... Metrics>
  requires(sizeof...(Metrics) > 0)
[[nodiscard]] std::tuple<totals<Metrics>...> measure(const Eigen::DenseBase<Reference>& reference,
                                                     const Eigen::DenseBase<Observed>& observed, const Metrics&... metrics) {
  return measure(reference, observed, measure_options{}, metrics...);
}

}  // namespace klens

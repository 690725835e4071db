#pragma once

#include <cstddef>
#include <klens/detail/text.hpp>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// What a quantizer looks at beside the weights.
enum class input_need { nothing, mean_squares, second_moments };

/// What the inputs x of a layer (of its product x W^T) were like over some positions.
struct layer_inputs {
  std::size_t positions = 0;        ///< how many inputs there were
  std::vector<float> mean_squares;  ///< mean of x_i^2, one a column: 0 where an input was always 0
  matrix<float> second_moments;     ///< mean of x_i x_j, [in x in]; empty where nothing asked for it

  [[nodiscard]] bool have(input_need what) const noexcept {
    return what == input_need::nothing ||
           (what == input_need::mean_squares ? !mean_squares.empty() : second_moments.size() != 0);
  }
};

namespace detail {

/// Throws shape_error unless the statistics are those of so many columns and finite.
inline void expect_inputs(const std::string& whose, const layer_inputs& inputs, std::size_t columns) {
  const auto expect = [&](const char* what, bool fits) {
    if (!fits)
      refuse<shape_error>(
          {whose, ": the ", what, " of its inputs are not those of ", columns, " columns; they are of another model"});
  };
  expect("mean squares", inputs.mean_squares.size() == columns);
  const auto side = static_cast<Eigen::Index>(columns);
  expect("second moments",
         inputs.second_moments.size() == 0 || (inputs.second_moments.rows() == side && inputs.second_moments.cols() == side));
  for (const float each : inputs.mean_squares)
    if (!(each >= 0 && each <= 3e38f))
      refuse<numeric_error>({whose, ": a mean square of its inputs is ", number_text(static_cast<double>(each)),
                             "; measure them again, on logits that are finite"});
}

}  // namespace detail
}  // namespace klens

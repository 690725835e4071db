#pragma once

#include <cstddef>
#include <klens/matrix.hpp>
#include <klens/quant/scheme.hpp>
#include <map>
#include <span>
#include <utility>

#include "part.hpp"

namespace programs {

/// Vectors of so many columns, one after the other, become what storage would give back of them. Throws klens::numeric_error
/// where it cannot store one.
inline void round_vectors(const klens::scheme& storage, std::span<float> values, std::size_t columns) {
  for (std::size_t first = 0; first < values.size(); first += columns) {
    const std::span<float> vector = values.subspan(first, columns);
    storage.round_trip(vector, vector);
  }
}

/// How something that comes into being while the model runs is stored instead of as floats.
struct rounding {
  klens::scheme storage;
  std::size_t columns = 0;     ///< of a vector, which has scales of its own
  bool feedback = false;       ///< of a state: what rounding took away is added before the next one
  std::size_t by_channel = 0;  ///< of keys and values: a vector is so many positions of one channel; 0: one position of a head

  /// Whole vectors, such as a row or several of them: see round_vectors.
  void apply(std::span<float> values) const { round_vectors(storage, values, columns); }
  [[nodiscard]] Eigen::Index group() const noexcept { return static_cast<Eigen::Index>(by_channel); }
  /// Where these positions, all that there are until now, end with a full group, its channels become what storage gives back.
  void close_group(klens::matrix_ref<float> positions) const {
    if (positions.rows() % group() != 0) return;
    klens::matrix<float> channels = positions.bottomRows(group()).transpose();
    apply({channels.data(), static_cast<std::size_t>(channels.size())});
    positions.bottomRows(group()) = channels.transpose();
  }
};

/// What a part keeps, by the numbers under which it does.
namespace kept_as {
inline constexpr int last_inputs = -1;      // of a convolution
inline constexpr int keys = 0, values = 1;  // of an attention
inline constexpr int state = 0;             // of a recurrence, or of its first group
inline constexpr int remainder = 1 << 20;   // and what error feedback keeps beside it: added to the number
}  // namespace kept_as

/// Those that are set, by part and number.
class roundings {
 public:
  void set(const void* part, int number, rounding how) { set_.insert_or_assign({part, number}, std::move(how)); }
  void clear(const void* part, int number) noexcept { set_.erase({part, number}); }
  [[nodiscard]] bool empty() const noexcept { return set_.empty(); }
  [[nodiscard]] const rounding* find(const void* part, int number) const noexcept {
    const auto found = set_.find({part, number});
    return found == set_.end() ? nullptr : &found->second;
  }

 private:
  std::map<std::pair<const void*, int>, rounding> set_;
};

/// How a part stores what it keeps under a number; null: as floats.
[[nodiscard]] inline const rounding* rounding_of(const pass& at, const void* part, int number) noexcept {
  return at.rounded ? at.rounded->find(part, number) : nullptr;
}

}  // namespace programs

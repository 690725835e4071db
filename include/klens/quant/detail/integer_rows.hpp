#pragma once

#include <charconv>
#include <cstddef>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Bytes of a stream of `count` codes, padded to a whole byte.
[[nodiscard]] constexpr std::size_t stream_bytes(std::size_t count, std::size_t bits) noexcept {
  return (count * bits + 7) / 8;
}

[[nodiscard]] constexpr std::size_t scale_size(scale_kind scale) noexcept { return scale == scale_kind::f16 ? 2 : 4; }

/// The size of a group, taken off the front of what is left of a name: "-channel" is 0, the whole row, "-g64" is 64.
[[nodiscard]] inline std::optional<std::size_t> take_group(std::string_view& name) {
  std::size_t size = 0;
  if (name.starts_with("-channel")) {
    name.remove_prefix(8);
    return size;
  }
  if (!name.starts_with("-g") || name.starts_with("-g0")) return std::nullopt;  // no group is empty, no size has two spellings
  const auto [end, error] = std::from_chars(name.data() + 2, name.data() + name.size(), size);
  if (error != std::errc{}) return std::nullopt;
  name.remove_prefix(static_cast<std::size_t>(end - name.data()));
  return size;
}
[[nodiscard]] inline std::string group_name(std::size_t size) { return size == 0 ? "-channel" : "-g" + std::to_string(size); }

/// How klens::integer stores rows, with all of it as run-time values: one set of loops serves every scheme of integers.
struct integer_rows {
  int bits = 0;
  klens::grid grid = grid::absmax;
  std::size_t group_size = 0;  // 0: the whole row
  scale_kind scale = scale_kind::f16;

  static constexpr const char* grammar =
      "int<2 to 8>[-signed|-asym]-<channel|g<columns>>[-f32] (int4-g64, int8-channel, int4-asym-g128)";

  /// The integers of that name, if it is one. Names of klens 0.1 end in -s32 in place of -f32.
  [[nodiscard]] static std::optional<integer_rows> from_name(std::string_view name) {
    const auto take = [&](std::string_view prefix) {
      const bool is_there = name.starts_with(prefix);
      if (is_there) name.remove_prefix(prefix.size());
      return is_there;
    };
    if (!take("int") || name.empty() || name[0] < '2' || name[0] > '8') return std::nullopt;
    integer_rows rows{.bits = name[0] - '0'};
    name.remove_prefix(1);
    rows.grid = take("-signed") ? grid::signed_ : take("-asym") ? grid::asym : grid::absmax;
    const std::optional<std::size_t> group = take_group(name);
    if (!group) return std::nullopt;
    rows.group_size = *group;
    if (take("-f32") || take("-s32")) rows.scale = scale_kind::f32;
    return name.empty() ? std::optional{rows} : std::nullopt;
  }

  [[nodiscard]] std::string name() const {
    const char* const kind = grid == grid::absmax ? "" : grid == grid::signed_ ? "-signed" : "-asym";
    return "int" + std::to_string(bits) + kind + group_name(group_size) + (scale == scale_kind::f32 ? "-f32" : "");
  }

  [[nodiscard]] scheme_parts parts() const noexcept { return {scheme_family::integer, bits, group_size, grid, scale}; }

  /// The size of a group in a row of that many columns, and how many there are.
  [[nodiscard]] std::size_t group_of(std::size_t columns) const noexcept { return group_size == 0 ? columns : group_size; }
  [[nodiscard]] std::size_t groups(std::size_t columns) const noexcept {
    return columns == 0 ? 0 : (columns - 1) / group_of(columns) + 1;
  }

  [[nodiscard]] std::size_t bytes(std::size_t columns) const noexcept {
    const auto b = static_cast<std::size_t>(bits);
    return stream_bytes(columns, b) + groups(columns) * scale_size(scale) +
           (grid == grid::asym ? stream_bytes(groups(columns), b) : 0);
  }

  [[nodiscard]] bool is_asym() const noexcept { return grid == grid::asym; }
  [[nodiscard]] int half_range() const noexcept { return 1 << (bits - 1); }
  [[nodiscard]] int lowest() const noexcept {
    return grid == grid::asym ? 0 : grid == grid::signed_ ? -half_range() : 1 - half_range();
  }
  [[nodiscard]] int highest() const noexcept { return grid == grid::asym ? 2 * half_range() - 1 : half_range() - 1; }

  /// How many steps of a scale make up what it is stretched over.
  [[nodiscard]] int steps() const noexcept { return grid == grid::signed_ ? half_range() : highest(); }

  [[nodiscard]] float largest_scale() const noexcept {
    return scale == scale_kind::f16 ? largest_fp16_scale : 0x1.fffffp127f / static_cast<float>(steps());
  }
  [[nodiscard]] std::string limit_text() const {
    return scale == scale_kind::f16 ? "and fp16 ends at 65504; store it in float: " + name() + "-f32"
                                    : "with which kept weights could leave the range of float; use bf16";
  }
};

}  // namespace klens::detail

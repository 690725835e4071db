#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace klens::detail {

static_assert(std::endian::native == std::endian::little, "stored rows are little-endian, and so is the code that packs them");

/// 64 bits of which the lowest `low` of every `period` are set.
[[nodiscard]] constexpr std::uint64_t repeated_mask(int low, int period) noexcept {
  std::uint64_t mask = 0;
  for (int bit = 0; bit < 64; ++bit) mask |= static_cast<std::uint64_t>(bit % period < low) << bit;
  return mask;
}

/// Eight codes, one a byte, to the lowest 8 * Bits bits, the first code lowest. Neighbours are joined three times.
template <int Bits, int Period = 8>
[[nodiscard]] constexpr std::uint64_t join_codes(std::uint64_t bytes) noexcept {
  if constexpr (Period == 64) {
    return bytes;
  } else {
    constexpr std::uint64_t low = repeated_mask(Bits, 2 * Period);
    return join_codes<2 * Bits, 2 * Period>((bytes & low) | ((bytes >> (Period - Bits)) & (low << Bits)));
  }
}

/// The way back.
template <int Bits, int Period = 8>
[[nodiscard]] constexpr std::uint64_t split_codes(std::uint64_t joined) noexcept {
  if constexpr (Period == 64) {
    return joined;
  } else {
    constexpr std::uint64_t low = repeated_mask(Bits, 2 * Period);
    const std::uint64_t halves = split_codes<2 * Bits, 2 * Period>(joined);
    return (halves & low) | ((halves << (Period - Bits)) & (low << Period));
  }
}

/// Bytes of a stream of `count` codes, padded to a whole byte.
[[nodiscard]] constexpr std::size_t stream_bytes(std::size_t count, std::size_t bits) noexcept {
  return (count * bits + 7) / 8;
}

/// Codes on their way: they come and go as 32-bit integers, in between they are bytes, eight to a word. Three plain loops,
/// which compilers turn into vectors.
inline constexpr std::size_t codes_at_once = 512;
using code_words = std::array<std::uint64_t, codes_at_once / 8>;

/// Joins the first `count` <= codes_at_once codes, a multiple of 8, and splits them again. Calls are few, and the code is much:
/// copies of it in every caller would cost compile time for nothing.
template <int Bits>
[[gnu::noinline]] void join_all(const std::int32_t* codes, std::size_t count, std::byte* to) noexcept {
  alignas(64) code_words words;
  auto* const bytes = reinterpret_cast<std::uint8_t*>(words.data());
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::uint8_t>(codes[i]);
  for (std::size_t w = 0; w < count / 8; ++w) words[w] = join_codes<Bits>(words[w]);
  for (std::size_t w = 0; w < count / 8; ++w) std::memcpy(to + w * Bits, &words[w], Bits);
}
template <int Bits>
[[gnu::noinline]] void split_all(const std::byte* from, std::size_t count, std::int32_t* codes) noexcept {
  alignas(64) code_words words;
  const auto* const bytes = reinterpret_cast<const std::uint8_t*>(words.data());
  for (std::size_t w = 0; w < count / 8; ++w) {
    std::uint64_t word = 0;
    std::memcpy(&word, from + w * Bits, Bits);
    words[w] = word;
  }
  for (std::size_t w = 0; w < count / 8; ++w) words[w] = split_codes<Bits>(words[w]);
  for (std::size_t i = 0; i < count; ++i) codes[i] = bytes[i];
}

/// Calls body with the number of bits, 2 to 8, as a constant.
template <class Body>
void with_bits(int bits, const Body& body) noexcept {
  switch (bits) {
    case 2:
      return body(std::integral_constant<int, 2>{});
    case 3:
      return body(std::integral_constant<int, 3>{});
    case 4:
      return body(std::integral_constant<int, 4>{});
    case 5:
      return body(std::integral_constant<int, 5>{});
    case 6:
      return body(std::integral_constant<int, 6>{});
    case 7:
      return body(std::integral_constant<int, 7>{});
    default:
      return body(std::integral_constant<int, 8>{});
  }
}

/// Writes codes of 2 to 8 bits as a little-endian stream: code i takes the bits [i b, (i+1) b), bit k being bit k % 8 of byte k
/// / 8.
class code_writer {
 public:
  code_writer(std::byte* to, int bits) noexcept : to_{to}, bits_{bits} {}

  /// Room for `count` <= 64 codes that are in the stream from now on: fill it before the next call. What is written behind
  /// them, up to 64 codes in all, is ignored.
  [[nodiscard]] std::int32_t* append(std::size_t count) noexcept {
    if (waiting_ >= codes_at_once) flush(codes_at_once);
    waiting_ += count;
    return codes_ + waiting_ - count;
  }

  /// Writes what is left, padded with zeros to a whole byte.
  void finish() noexcept {
    if (waiting_ >= codes_at_once) flush(codes_at_once);
    flush(waiting_ / 8 * 8);
    std::fill(codes_ + waiting_, codes_ + 8, 0);
    std::byte last[8];
    with_bits(bits_, [&](auto bits) { join_all<bits>(codes_, 8, last); });
    std::memcpy(to_, last, stream_bytes(waiting_, static_cast<std::size_t>(bits_)));
  }

 private:
  void flush(std::size_t count) noexcept {
    with_bits(bits_, [&](auto bits) { join_all<bits>(codes_, count, to_); });
    to_ += count / 8 * static_cast<std::size_t>(bits_);
    std::copy(codes_ + count, codes_ + waiting_, codes_);
    waiting_ -= count;
  }

  std::byte* to_;
  int bits_;
  std::size_t waiting_ = 0;
  alignas(64) std::int32_t codes_[codes_at_once + 128];
};

/// Reads the `count` codes that a code_writer wrote.
class code_reader {
 public:
  code_reader(const std::byte* from, std::size_t count, int bits) noexcept : from_{from}, left_{count}, bits_{bits} {}

  /// The next `count` <= 64 codes, valid until the next call; the memory behind them, up to 64 codes in all, may be read.
  [[nodiscard]] const std::int32_t* take(std::size_t count) noexcept {
    if (next_ + count > ready_) refill();
    next_ += count;
    return codes_ + next_ - count;
  }

 private:
  void refill() noexcept {
    std::copy(codes_ + next_, codes_ + ready_, codes_);  // fewer than 64
    ready_ -= next_;
    next_ = 0;
    split(from_, std::min(left_ / 8 * 8, codes_at_once));
    if (left_ >= 8) return;
    std::byte last[8] = {};
    std::memcpy(last, from_, stream_bytes(left_, static_cast<std::size_t>(bits_)));
    split(last, 8);
    left_ = 0;
    std::fill_n(codes_ + ready_, 64, 0);
  }

  void split(const std::byte* from, std::size_t count) noexcept {
    with_bits(bits_, [&](auto bits) { split_all<bits>(from, count, codes_ + ready_); });
    from_ += count / 8 * static_cast<std::size_t>(bits_);
    ready_ += count;
    left_ -= std::min(left_, count);
  }

  const std::byte* from_;
  std::size_t left_;
  int bits_;
  std::size_t next_ = 0;
  std::size_t ready_ = 0;
  alignas(64) std::int32_t codes_[codes_at_once + 192];
};

}  // namespace klens::detail

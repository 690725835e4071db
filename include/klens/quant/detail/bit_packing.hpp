#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/quant/detail/integer_rows.hpp>
#include <type_traits>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

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

/// Between weights and bit streams codes are bytes, so many in one buffer.
inline constexpr std::size_t codes_at_once = 512;

/// Joins the first `count` codes, a multiple of 8, and splits them again: plain loops, which compilers turn into vectors. Not
/// inlined: it is called seldom, and copies of its code would only cost compile time.
template <int Bits>
[[gnu::noinline]] void join_all(const std::uint8_t* codes, std::size_t count, std::byte* to) noexcept {
  if constexpr (Bits == 4) {  // two codes are a byte
    for (std::size_t i = 0; i < count / 2; ++i) {
      std::uint16_t pair = 0;
      std::memcpy(&pair, codes + 2 * i, 2);
      to[i] = static_cast<std::byte>(pair | pair >> 4);
    }
  } else {
    for (std::size_t w = 0; w < count / 8; ++w) {
      std::uint64_t word = 0;
      std::memcpy(&word, codes + 8 * w, 8);
      word = join_codes<Bits>(word);
      std::memcpy(to + w * Bits, &word, Bits);
    }
  }
}
template <int Bits>
[[gnu::noinline]] void split_all(const std::byte* from, std::size_t count, std::uint8_t* codes) noexcept {
  if constexpr (Bits == 4) {
    for (std::size_t i = 0; i < count / 2; ++i) {
      const auto pair = std::to_integer<unsigned>(from[i]);
      const auto apart = static_cast<std::uint16_t>((pair | pair << 4) & 0x0f0f);
      std::memcpy(codes + 2 * i, &apart, 2);
    }
  } else {
    for (std::size_t w = 0; w < count / 8; ++w) {
      std::uint64_t word = 0;
      std::memcpy(&word, from + w * Bits, Bits);
      word = split_codes<Bits>(word);
      std::memcpy(codes + 8 * w, &word, 8);
    }
  }
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
  [[nodiscard]] std::uint8_t* append(std::size_t count) noexcept {
    if (waiting_ >= codes_at_once) flush(codes_at_once);
    waiting_ += count;
    return codes_ + waiting_ - count;
  }

  /// Writes what is left, padded with zeros to a whole byte.
  void finish() noexcept {
    if (waiting_ >= codes_at_once) flush(codes_at_once);
    flush(waiting_ / 8 * 8);
    std::fill(codes_ + waiting_, codes_ + 8, std::uint8_t{0});
    std::byte last[8];
    with_bits(bits_, [&](auto bits) { join_all<bits>(codes_, 8, last); });
    std::memcpy(to_, last, stream_bytes(waiting_, static_cast<std::size_t>(bits_)));
  }

 private:
  [[gnu::noinline]] void flush(std::size_t count) noexcept {
    with_bits(bits_, [&](auto bits) { join_all<bits>(codes_, count, to_); });
    to_ += count / 8 * static_cast<std::size_t>(bits_);
    std::copy(codes_ + count, codes_ + waiting_, codes_);
    waiting_ -= count;
  }

  std::byte* to_;
  int bits_;
  std::size_t waiting_ = 0;
  alignas(64) std::uint8_t codes_[codes_at_once + 128];
};

/// Reads the `count` codes that a code_writer wrote.
class code_reader {
 public:
  code_reader(const std::byte* from, std::size_t count, int bits) noexcept : from_{from}, left_{count}, bits_{bits} {}

  /// The next `count` <= 64 codes, valid until the next call; the memory behind them, up to 64 codes in all, may be read.
  [[nodiscard]] const std::uint8_t* take(std::size_t count) noexcept {
    if (next_ + count > ready_) refill();
    next_ += count;
    return codes_ + next_ - count;
  }

 private:
  [[gnu::noinline]] void refill() noexcept {
    std::copy(codes_ + next_, codes_ + ready_, codes_);  // fewer than 64
    ready_ -= next_;
    next_ = 0;
    split(from_, std::min(left_ / 8 * 8, codes_at_once));
    if (left_ >= 8) return;
    std::byte last[8] = {};
    std::memcpy(last, from_, stream_bytes(left_, static_cast<std::size_t>(bits_)));
    split(last, 8);
    left_ = 0;
    std::fill_n(codes_ + ready_, 64, std::uint8_t{0});
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
  alignas(64) std::uint8_t codes_[codes_at_once + 192];
};

}  // namespace klens::detail

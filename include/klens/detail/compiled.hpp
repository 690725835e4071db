#pragma once
// What the library of klens::compiled offers: plain functions over plain types, whose names do not depend on the flags of those
// who call them. Headers call it where KLENS_COMPILED is set. No function throws: it returns what is wrong.

#include <cstddef>

namespace klens::compiled {

/// klens::reference_row and klens::row_damage.
struct reference {
  double log_sum_exp, energy;
  std::size_t top;
  bool masked;
};
struct damage {
  double log_partition_change, kl, reverse_kl, js, squared_error, reference_energy;
  bool same_top;
};

/// How a built-in quantizer stores a row. The members after `kind` count for integers, the last for nf4, too.
struct row_format {
  enum class stored {
    integers,
    fp16,
    bf16,
    q4_0,
    q5_0,
    q8_0,
    q4_1,
    q5_1,
    q2_k,
    q3_k,
    q4_k,
    q5_k,
    q6_k,
    fp8_e4m3,
    fp8_e5m2,
    mxfp4,
    nvfp4,
    nf4
  } kind;
  int bits, grid, scale;
  std::size_t group_size;
};
/// klens::weight_error; below it klens::detail::unstorable.
struct weight_sums {
  double energy, squared_error;
};
struct unstorable {
  std::size_t first, count;
  float scale;
};

/// The loops for one instruction set.
struct kernels {
  const char* instruction_set;  ///< "sse2", "avx2", "avx512"; elsewhere "baseline"

  /// False where a row is no row of logits: it has a NaN or +inf, or nothing but -inf.
  bool (*describe)(const float* row, std::size_t size, reference& known) noexcept;
  bool (*compare)(const float* reference_row, const float* observed, std::size_t size, const reference& known, unsigned needs,
                  damage& of) noexcept;

  unstorable (*round_trip)(const row_format&, const float* weights, std::size_t columns, float* kept, weight_sums&) noexcept;
  unstorable (*pack)(const row_format&, const float* weights, std::size_t columns, std::byte* packed) noexcept;
  void (*unpack)(const row_format&, const std::byte* packed, std::size_t columns, float* kept) noexcept;
};

/// The widest that this processor has; or what the environment variable KLENS_INSTRUCTION_SET names, where it has that. Chosen
/// by the first call.
[[nodiscard]] const kernels& chosen() noexcept;

/// Those of a name; null where the library or this processor lacks them.
[[nodiscard]] const kernels* find(const char* instruction_set) noexcept;

}  // namespace klens::compiled

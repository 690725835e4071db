#pragma once

#include <concepts>
#include <cstddef>
#include <klens/detail/as_floats.hpp>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/detail/for_rows.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/round_trip.hpp>
#include <klens/quant/scheme.hpp>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// The stored form of a scheme's rows. Apart from klens::scheme, so that only programs that pack compile it.
///   const klens::packer packer{scheme};
///   packer.pack(row, packed);
class packer {
 public:
  /// Throws argument_error for a user's quantizer that has no pack and unpack, and for an informed one that has not seen a
  /// layer's inputs: scheme_for(layer, scheme) has, and scheme.stored_as() names one that unpacks.
  template <std::same_as<scheme> Scheme>  // a template, so that including this compiles no loops
  explicit packer(const Scheme& of) : scheme_{of}, packer_{of.policy_->packer()} {
    if (scheme_.needs() != input_need::nothing)
      throw argument_error{scheme_.name() +
                           " packs for a layer whose inputs it has seen; give scheme_for(layer, scheme), or to " + "unpack " +
                           scheme_.stored_as()};
    if (scheme_.policy_->is_built_in())
      detail::built_in_quantizers::find(scheme_.name(), [&]<class Quantizer>(const Quantizer& policy) {
        if constexpr (packing_quantizer<Quantizer>) packer_ = std::make_shared<const detail::packer_of<Quantizer>>(policy);
      });
    if (!packer_) throw argument_error{scheme_.name() + " has no stored form: give it pack() and unpack()"};
  }

  [[nodiscard]] std::string name() const { return scheme_.name(); }
  [[nodiscard]] std::size_t bytes(std::size_t columns) const { return scheme_.bytes(columns); }
  weight_error round_trip(std::span<const float> weights, std::span<float> kept) const {
    return scheme_.round_trip(weights, kept);
  }

  /// Fills exactly bytes(columns) bytes. Throws as round_trip does (`packed` is then unspecified).
  void pack(std::span<const float> weights, std::span<std::byte> packed) const { packer_->pack(weights, packed); }
  /// What round_trip gives, bit for bit. Throws shape_error.
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const { packer_->unpack(packed, kept); }

 private:
  scheme scheme_;
  std::shared_ptr<const detail::any_packer> packer_;
};
static_assert(packing_quantizer<packer>);

namespace detail {

/// Bytes of a packed row of a matrix whose rows lie one after the other in `packed` bytes.
template <packing_quantizer Quantizer>
[[nodiscard]] std::size_t expect_packed(const char* who, const Quantizer& scheme, std::size_t packed, Eigen::Index rows,
                                        Eigen::Index columns) {
  const std::size_t row_bytes = scheme.bytes(static_cast<std::size_t>(columns));
  if (packed != static_cast<std::size_t>(rows) * row_bytes)
    throw shape_error{std::string{who} + ": " + std::to_string(packed) + " bytes for " + shape_text(rows, columns) +
                      " weights of " + std::string{scheme.name()} + "; give " +
                      std::to_string(static_cast<std::size_t>(rows) * row_bytes)};
  return row_bytes;
}

}  // namespace detail

/// The stored rows of a matrix, one after the other. (For a scheme give its packer.)
/// Shapes     weights [out x in], as for round_trip; packed takes out rows of quantizer.bytes(in) bytes.
/// Throws     as round_trip does (`packed` is then unspecified).
template <packing_quantizer Quantizer, class Weights>
void pack(const Quantizer& quantizer, const Eigen::DenseBase<Weights>& of_weights, std::span<std::byte> packed,
          const round_trip_options& options = {}) {
  const const_matrix_ref<typename Weights::Scalar> weights{of_weights.derived()};
  const std::size_t row_bytes = detail::expect_packed("pack", quantizer, packed.size(), weights.rows(), weights.cols());
  const auto rows = static_cast<std::size_t>(weights.rows()), columns = static_cast<std::size_t>(weights.cols());
  detail::for_rows(rows, columns, options.threads, [&](std::size_t, std::size_t r, std::vector<float>& floats) {
    quantizer.pack(detail::as_floats(row(weights, static_cast<Eigen::Index>(r)), floats),
                   packed.subspan(r * row_bytes, row_bytes));
  });
}

/// The kept values of what pack wrote: bit for bit what round_trip gives.
/// Shapes     kept [out x in]; packed holds out rows of quantizer.bytes(in) bytes.
/// Throws     shape_error.
template <packing_quantizer Quantizer>
void unpack(const Quantizer& quantizer, std::span<const std::byte> packed, matrix_ref<float> kept,
            const round_trip_options& options = {}) {
  const std::size_t row_bytes = detail::expect_packed("unpack", quantizer, packed.size(), kept.rows(), kept.cols());
  const auto rows = static_cast<std::size_t>(kept.rows()), columns = static_cast<std::size_t>(kept.cols());
  detail::for_rows(rows, columns, options.threads, [&](std::size_t, std::size_t r, std::vector<float>&) {
    quantizer.unpack(packed.subspan(r * row_bytes, row_bytes), row(kept, static_cast<Eigen::Index>(r)));
  });
}

}  // namespace klens

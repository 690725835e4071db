#pragma once

#include <cstdint>
#include <klens/plan/plan.hpp>
#include <klens/plan/units_of.hpp>
#include <klens/rank/scores.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gguf_file.hpp"
#include "gguf_model.hpp"

namespace llama_adapter {

/// What may become of tensors, beside what their scores say.
struct plan_rules {
  std::vector<std::string> keep;               ///< tensors in whose names one of these is found stay as they are
  std::optional<double> floor;                 ///< no tensor may lose more, in nats/token
  std::vector<std::string> assume_harmless{};  ///< tensors whose damage counts as 0 where the scores do not know it
  mixture_rules mixture{};                     ///< types that llama-quantize is told; its own mixtures are made with them too
};

/// How large a file may be: by one of them, the others are empty.
struct file_limit {
  std::string size;  ///< of the file
  std::string bpw;   ///< bits a weight of its tensors
  std::string like;  ///< the bytes of llama-quantize's own mixture of this name
};

/// llama-quantize's name of a mixture: those whose types do not depend on whether there is an importance matrix, or that can be
/// made without one. Throws klens::argument_error, with those that are known.
[[nodiscard]] llama_ftype mixture_of(const std::string& name);

/// klens::units_of for the tensors of a file: those that were scored, in the types that llama-quantize would store, by their
/// bytes in the file, and the type that each has, which loses nothing.
/// A tensor whose type is decided (gguf_model::types_by) gets that one.
/// Throws klens::argument_error for a tensor that was not scored and is not kept, for one that the model has not, and for one
/// whose type is decided and was not scored.
[[nodiscard]] klens::scored_units units_of(const klens::scores& scores, std::span<const std::string> tensors,
                                           const gguf_file& file, const tensor_types& decided, const plan_rules& rules);

/// The bytes that the limit leaves for these units, whatever they become: it less metadata and tensors that are not planned.
/// Throws klens::argument_error where nothing is left.
[[nodiscard]] std::uint64_t budget_of(const file_limit& limit, const gguf_file& file, const gguf_model& model,
                                      const mixture_rules& rules, std::span<const klens::plan_unit> units);

/// Of every tensor that llama-quantize may change.
[[nodiscard]] tensor_types types_of(std::span<const klens::plan_unit> units, const klens::allocation& chosen,
                                    const gguf_file& file);

/// A tensor type file for llama-quantize: a line for each tensor that it may change, so that its own defaults decide nothing.
[[nodiscard]] std::string type_file_text(const tensor_types& types);

}  // namespace llama_adapter

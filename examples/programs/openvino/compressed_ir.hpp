#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <klens/plan/plan.hpp>
#include <map>
#include <string>

#include "checked_ir.hpp"

namespace openvino_adapter {

/// What a plan became: how many matrices have a scheme, and their bytes, by scheme.
struct stored_plan {
  struct share {
    std::size_t layers = 0;
    std::uint64_t bytes = 0;
  };
  std::map<std::string, share> schemes;
  std::size_t untouched = 0;  ///< matrices that the plan has not
};

/// Stores the matrices of a model as a plan says, and leaves those that it has not as they are. A layer of the plan is the
/// matrix of that name, or whose name ends in it after a dot; lm_head.weight is also a matrix that the embedding looks up.
/// Throws     klens::argument_error, beginning with `plan_path`, where the plan is another model's; klens::argument_error for
///            a scheme that cannot be stored; klens::numeric_error for weights that a scheme cannot store. `ir` is then
///            unspecified.
[[nodiscard]] stored_plan store_plan(checked_ir& ir, const klens::plan& plan, const std::string& plan_path);

/// Writes xml and its .bin, both or none. Throws klens::file_error.
void write_ir(const checked_ir& ir, const std::filesystem::path& xml);

/// Throws klens::file_error where write_ir could not write: what is known before the work.
void expect_writable_ir(const std::filesystem::path& xml);

}  // namespace openvino_adapter

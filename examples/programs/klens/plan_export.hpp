#pragma once

#include <filesystem>
#include <klens/plan/plan.hpp>
#include <string>
#include <vector>

#include "commands.hpp"
#include "plan_inputs.hpp"

namespace programs {

/// What --export takes, and what each target was checked with.
[[nodiscard]] std::string export_help();

/// The exports that a command line asks for. They are made in two steps, so that whatever speaks against one is known before
/// anything is written.
class plan_exports {
 public:
  /// Throws klens::argument_error for what is not TARGET=PATH, klens::file_error for a path that cannot be written.
  explicit plan_exports(const std::vector<std::string>& requests);

  /// Throws klens::argument_error for a scheme that a target cannot store.
  void prepare(const klens::plan& of, plan_inputs& inputs, const std::filesystem::path& folder);

  /// Says on stdout where each is and how it is used.
  void write(const klens::plan& of, plan_inputs& inputs, const std::filesystem::path& folder) const;

 private:
  struct request {
    std::string target;
    std::filesystem::path path;
    std::string text, usage;
  };
  std::vector<request> requests_;
};

}  // namespace programs

#pragma once

#include <cstdio>

#include "commands.hpp"
#include "engine/model.hpp"
#include "terminal.hpp"

namespace programs {

/// The model of a command's folder; what there is to know of how it was loaded goes to stderr.
[[nodiscard]] inline model load_model(const std::filesystem::path& folder, bool strict) {
  model loaded = model::load(folder, {.strict = strict});
  for (const std::string& each : loaded.remarks()) std::fprintf(stderr, "klens: %s\n", printable(each).c_str());
  return loaded;
}
[[nodiscard]] inline model load_model(const run_arguments& run) { return load_model(run.model, run.strict); }

}  // namespace programs

#pragma once

#include <cstdio>
#include <klens/error.hpp>

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
/// The same of a command that runs it over tokens.
[[nodiscard]] inline model load_model(const run_arguments& run) {
  model loaded = load_model(run.model, run.strict);
  if (loaded.reads_images())
    throw klens::argument_error{run.model.string() + ": is a model of images; only klens rank and klens layers take one"};
  return loaded;
}

}  // namespace programs

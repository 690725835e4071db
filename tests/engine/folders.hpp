#pragma once
// Model folders for tests of the engine: those that are there, and copies of them with something changed.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/model.hpp"
#include "support/changed_folder.hpp"

namespace support {

inline const std::filesystem::path golden = std::filesystem::path(KLENS_TEST_DATA) / "golden";

/// What loading a folder says; nothing where it succeeds.
[[nodiscard]] inline std::string load_error(const std::filesystem::path& folder, programs::load_options options = {}) {
  try {
    (void)programs::model::load(folder, options);
  } catch (const klens::file_error& error) {
    return error.what();
  }
  return "";
}

/// Token ids that differ from place to place.
[[nodiscard]] inline std::vector<std::int32_t> some_tokens(const programs::model& of, std::size_t count) {
  std::vector<std::int32_t> tokens(count);
  for (std::size_t i = 0; i < count; ++i) tokens[i] = static_cast<std::int32_t>((i * i + 31 * i + 7) % of.vocabulary());
  return tokens;
}

/// The logits of a whole forward.
[[nodiscard]] inline klens::matrix<float> forward(const programs::model& of, const std::vector<std::int32_t>& tokens,
                                                  std::size_t sequences, std::size_t threads = 1) {
  programs::state at = of.begin(tokens, sequences, tokens.size() / sequences);
  for (std::size_t stage = 0; stage < of.stages(); ++stage) of.advance(at, stage, threads);
  return of.logits(at, threads);
}

}  // namespace support

#pragma once
// How tests of the program call it.

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "support/run_program.hpp"

namespace support {

inline const std::string example_data = KLENS_EXAMPLE_DATA;
inline const std::string embedded_model = "'" + example_data + "/wikitext-hybrid-4m'";
inline const std::string calibration = "'" + example_data + "/wikitext2-calibration.safetensors'";

[[nodiscard]] inline program_result run_klens(const std::string& arguments) {
  return run_program("'" KLENS_PROGRAM "' " + arguments);
}

[[nodiscard]] inline std::string quoted(const std::filesystem::path& path) { return "'" + path.string() + "'"; }

/// Bad input: exit code 2, one line that says why, and nothing else.
inline void check_refused(const program_result& result, const std::string& because) {
  INFO(result.errors);
  CHECK(result.exit_code == 2);
  CHECK(result.output.empty());
  CHECK(std::ranges::count(result.errors, '\n') == 1);
  CHECK(result.errors.starts_with(std::filesystem::path{KLENS_PROGRAM}.filename().string() + ": "));
  CHECK_MESSAGE(result.errors.find(because) != std::string::npos, because);
}

}  // namespace support

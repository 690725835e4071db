#pragma once
// How tests of the program call it.

#include <string>

#include "support/run_program.hpp"

namespace support {

inline const std::string example_data = KLENS_EXAMPLE_DATA;
inline const std::string embedded_model = "'" + example_data + "/wikitext-hybrid-4m'";
inline const std::string calibration = "'" + example_data + "/wikitext2-calibration.safetensors'";

[[nodiscard]] inline program_result run_klens(const std::string& arguments) {
  return run_program("'" KLENS_PROGRAM "' " + arguments);
}

}  // namespace support

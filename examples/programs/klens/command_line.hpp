#pragma once

#include "command_parts.hpp"

namespace programs {

/// Reads the command line, carries the command out, and says on one line of stderr what is wrong where it cannot be. Returns
/// the exit code: 0; 2 for bad input; 130 after an interrupt.
[[nodiscard]] int run_command_line(int argc, char** argv, rank_function rank);

}  // namespace programs

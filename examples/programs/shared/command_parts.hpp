#pragma once
// What the command lines of programs on different engines share.

#include <functional>

#include "commands.hpp"

namespace CLI {
class App;
}

namespace programs {

using rank_function = std::function<bool(const rank_arguments&)>;  ///< false: interrupted

/// Options of every command that runs a model over tokens; `model` says what MODEL is, `tokens` how the tokens are given.
void add_run_options(CLI::App& command, run_arguments& run, const char* model, const char* tokens = "--tokens");

/// The command rank with the options that any engine can carry out.
CLI::App& add_rank_command(CLI::App& app, rank_arguments& rank, const char* model, rank_function rank_with, bool& interrupted);

/// Reads the command line, carries the command out, and says on one line of stderr what is wrong where it cannot be. Returns
/// the exit code: 0; 2 for bad input; 130 where the command set `interrupted`. The app's name begins messages.
[[nodiscard]] int carry_out(CLI::App& app, int argc, char** argv, const bool& interrupted);

}  // namespace programs

#pragma once
// What the command lines of programs on different engines share.

#include <cstdint>
#include <functional>
#include <string>

#include "commands.hpp"

namespace CLI {
class App;
class Option;
}

namespace programs {

using rank_function = std::function<bool(const rank_arguments&)>;  ///< false: interrupted

/// Options of every command that runs a model over tokens; `model` says what MODEL is, `tokens` how the tokens are given.
void add_run_options(CLI::App& command, run_arguments& run, const char* model, const char* tokens = "--tokens");

constexpr std::uint64_t scored_seed = 1, held_out_seed = 2;  ///< generated tokens that scores were made on measure no plan

/// --generate and what belongs to it: lets the model make the tokens that `option` names a file of otherwise. After all options of
/// run that the command has; gives back --generate, for those that exclude it as well.
CLI::Option& add_generate(CLI::App& command, const std::string& option, token_choice& tokens, std::uint64_t seed);

/// The command rank with the options that any engine can carry out.
CLI::App& add_rank_command(CLI::App& app, rank_arguments& rank, const char* model, rank_function rank_with, bool& interrupted);

/// Reads the command line, carries the command out, and says on one line of stderr what is wrong where it cannot be. Returns
/// the exit code: 0; 2 for bad input; 130 where the command set `interrupted`. The app's name begins messages.
[[nodiscard]] int carry_out(CLI::App& app, int argc, char** argv, const bool& interrupted);

}  // namespace programs

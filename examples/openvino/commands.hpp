#pragma once

#include <filesystem>

#include "../hybrid/commands.hpp"

namespace CLI {
class App;
}

namespace openvino_adapter {

struct compress_arguments {
  std::filesystem::path model, plan, output;
};

// Each adds a command that prints its answer on stdout and throws klens::error where there is none.
void add_rank(CLI::App& app, hybrid::rank_arguments& arguments, bool& interrupted);
void add_compress(CLI::App& app, compress_arguments& arguments);

}  // namespace openvino_adapter

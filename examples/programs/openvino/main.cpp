// klens on OpenVINO: what quantization does to each weight matrix of an IR, and IRs that are stored as a plan says.

#include <CLI/CLI.hpp>
#include <klens/version.hpp>

#include "command_parts.hpp"
#include "openvino_commands.hpp"

int main(int argc, char** argv) {
  CLI::App app{
      "klens-openvino ranks the weight matrices of an OpenVINO model by what quantization does to its output, and stores "
      "them by a plan",
      "klens-openvino"};
  app.set_version_flag("--version", "klens-openvino " KLENS_VERSION);
  app.require_subcommand(1);
  bool interrupted = false;
  programs::rank_arguments rank;
  openvino_adapter::compress_arguments compress;
  openvino_adapter::profile_arguments profile;
  openvino_adapter::demo_arguments demo;
  openvino_adapter::start_request start;
  openvino_adapter::add_rank(app, rank, interrupted);
  openvino_adapter::add_compress(app, compress);
  openvino_adapter::add_profile(app, profile);
  openvino_adapter::add_demo(app, demo, interrupted);
  openvino_adapter::add_start(app, start);
  return programs::carry_out(app, argc, argv, interrupted);
}

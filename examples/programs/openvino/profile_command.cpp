#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <thread>

#include "openvino_commands.hpp"

namespace openvino_adapter {
namespace {

constexpr const char* model_help = "an IR: model.xml, with model.bin beside it; compressed or not";

void start(const start_request& request) {
  const cold_start measured = start_here(request);
  std::printf("%.6f %.6f %llu\n", measured.load_seconds, measured.first_seconds,
              static_cast<unsigned long long>(measured.peak_bytes));
}

void profile(const profile_arguments& arguments) {
  for (const auto& each : {arguments.output, arguments.html})
    if (!each.empty()) klens::atomic_file{each};
  profile_request request = arguments.request;
  if (!arguments.held_out.file.empty()) request.held_out = arguments.held_out;
  std::vector<profile_subject> subjects;
  for (const std::filesystem::path& each : arguments.models)
    subjects.push_back({std::filesystem::path{each}.replace_extension().string(), each, "models"});
  report_profile(profile_models(subjects, request), arguments.output, arguments.html);
}

}  // namespace

void add_speed_options(CLI::App& command, profile_request& request) {
  request.threads = std::max(1u, std::thread::hardware_concurrency());
  command.add_option("--device", request.devices, "CPU, GPU, NPU or AUTO; several with commas between them")->delimiter(',');
  command.add_option("--length", request.length, "tokens in a sequence")->check(CLI::PositiveNumber)->capture_default_str();
  command.add_option("--threads", request.threads, "of the CPU, pinned")->check(CLI::Range(1, 1024))->capture_default_str();
  command.add_option("--runs", request.runs, "timed, of each model")->check(CLI::PositiveNumber)->capture_default_str();
}

void report_profile(const profile_study& study, const std::filesystem::path& json, const std::filesystem::path& html) {
  print_profile(study);
  if (!json.empty()) {
    klens::write_file(json, profile_json(study));
    std::printf("profile written to %s\n", json.c_str());
  }
  if (!html.empty()) {
    klens::write_file(html, profile_page(study));
    std::printf("page written to %s\n", html.c_str());
  }
}

void add_profile(CLI::App& app, profile_arguments& arguments) {
  CLI::App& command = *app.add_subcommand("profile", "size, speed and memory of IRs on a device, and what they lose");
  command.add_option("MODEL", arguments.models, std::string{model_help} + "; the others are compared with the first")
      ->required();
  add_speed_options(command, arguments.request);
  command.add_option("--tokens", arguments.held_out.file,
                     "safetensors with input_ids that were not used for ranking; without, nothing is said of quality");
  command.add_option("--sequences", arguments.held_out.sequences, "how many held-out sequences (default: up to 64)");
  command.add_option("--first", arguments.held_out.first, "tokens of the file to skip")->capture_default_str();
  command.add_option("--output", arguments.output, "write profile.json here");
  command.add_option("--html", arguments.html, "write a page with a picture here");
  command.callback([&arguments] { profile(arguments); });
}

void add_start(CLI::App& app, start_request& request) {
  CLI::App& command = *app.add_subcommand("start", "what profile measures of a new process: seconds, seconds, bytes");
  command.group("");  // not in the list of commands
  command.add_option("MODEL", request.model, model_help)->required();
  command.add_option("--device", request.device, "one")->capture_default_str();
  command.add_option("--length", request.length, "tokens")->capture_default_str();
  command.add_option("--threads", request.threads, "of the CPU")->capture_default_str();
  command.callback([&request] { start(request); });
}

}  // namespace openvino_adapter

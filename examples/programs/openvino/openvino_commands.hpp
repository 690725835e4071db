#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "commands.hpp"
#include "profile_study.hpp"

namespace CLI {
class App;
}

namespace openvino_adapter {

struct compress_arguments {
  std::filesystem::path model, plan, output;
};

struct profile_arguments {
  std::vector<std::filesystem::path> models;
  profile_request request;
  programs::token_choice held_out;
  std::filesystem::path output, html;
};

struct demo_arguments {
  std::filesystem::path model;
  std::string synthetic;
  programs::token_choice calibration, held_out;  ///< their length is the request's
  std::string schemes = "int4-signed-g64,int8-signed-channel";
  std::vector<std::string> budgets{"4.5bpw", "5bpw", "6bpw"};
  std::vector<std::string> assume_harmless;
  std::filesystem::path output;
  profile_request request;
};

// Each adds a command that prints its answer on stdout and throws klens::error where there is none.
void add_rank(CLI::App& app, programs::rank_arguments& arguments, bool& interrupted);
void add_compress(CLI::App& app, compress_arguments& arguments);
void add_profile(CLI::App& app, profile_arguments& arguments);
void add_demo(CLI::App& app, demo_arguments& arguments, bool& interrupted);
void add_start(CLI::App& app, start_request& request);

/// klens rank on an IR. False: interrupted.
[[nodiscard]] bool rank(const programs::rank_arguments& arguments);

/// What is asked of a device, wherever models are profiled; and what is then shown and written.
void add_speed_options(CLI::App& command, profile_request& request);
void report_profile(const profile_study& study, const std::filesystem::path& json, const std::filesystem::path& html);

}  // namespace openvino_adapter

#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <klens/plan/measure.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cold_start.hpp"
#include "token_set.hpp"

namespace openvino_adapter {

/// A model to be profiled.
struct profile_subject {
  std::string name;
  std::filesystem::path xml;
  std::string family;  ///< those of a family have the same mark in a picture
};

struct profile_request {
  std::vector<std::string> devices{"CPU"};
  std::size_t length = 128, threads = 1;
  std::size_t runs = 40;  ///< timed, of each model
  std::optional<programs::token_choice> held_out{};
  bool trained = true;  ///< perplexities mean something
};

/// A model on a device.
struct model_profile {
  profile_subject subject;
  std::string device, settings;
  std::uint64_t bytes = 0;  ///< both files
  cold_start start{};
  std::vector<double> seconds{};  ///< of one sequence, warm, in ascending order
  std::optional<klens::measured_version> quality{};

  /// The least time that a share of the runs do not exceed.
  [[nodiscard]] double seconds_at(double share) const;
};

struct profile_study {
  profile_request request;
  programs::token_set held_out;
  std::vector<model_profile> profiles;

  [[nodiscard]] double tokens_per_second(const model_profile& of) const {
    return static_cast<double>(request.length) / of.seconds_at(0.5);
  }
};

/// Throws klens::argument_error for a device that is not there, naming those that are.
void expect_devices(const std::vector<std::string>& wanted);

/// Starts each model in a process of its own; then runs all of them in turns; then measures what they say on the CPU in
/// float32, against the first. Throws as expect_devices, and klens::argument_error for models that do not share the first one's
/// vocabulary.
[[nodiscard]] profile_study profile_models(const std::vector<profile_subject>& subjects, const profile_request& request);

/// For people: a table.
void print_profile(const profile_study& study);
/// profile.json: format "klens-profile", version 1.
[[nodiscard]] std::string profile_json(const profile_study& study);
/// The table, and size and speed against KL and perplexity.
[[nodiscard]] std::string profile_page(const profile_study& study);

}  // namespace openvino_adapter

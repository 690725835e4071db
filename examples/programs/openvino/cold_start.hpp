#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <openvino/openvino.hpp>
#include <string>

namespace openvino_adapter {

/// One sequence at a time as fast as the device can, in its own precision; on the CPU with so many pinned threads.
[[nodiscard]] ov::AnyMap fast_settings(const std::string& device, std::size_t threads);

/// What somebody waits for who starts a model.
struct cold_start {
  double load_seconds = 0;       ///< reading and compiling
  double first_seconds = 0;      ///< the first sequence after that
  std::uint64_t peak_bytes = 0;  ///< of the process
};

/// How a model is started.
struct start_request {
  std::filesystem::path model;
  std::string device = "CPU";
  std::size_t length = 128, threads = 1;
};

/// In this process, whose memory then is what the process had at most so far.
[[nodiscard]] cold_start start_here(const start_request& request);

/// In a new process, which runs this program's command "start". Throws klens::error with what that process said.
[[nodiscard]] cold_start start_in_new_process(const start_request& request);

}  // namespace openvino_adapter

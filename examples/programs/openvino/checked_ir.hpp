#pragma once

#include <cstddef>
#include <filesystem>
#include <klens/error.hpp>
#include <memory>
#include <openvino/openvino.hpp>
#include <string>

namespace openvino_adapter {

/// The one runtime of this process.
[[nodiscard]] ov::Core& core();

/// A model that takes token ids [batch, length], alone, and gives logits [batch, length, vocabulary].
struct checked_ir {
  std::shared_ptr<ov::Model> model;
  std::string path;        ///< begins messages
  std::size_t output = 0;  ///< the logits' place among the outputs
  std::size_t vocabulary = 0;
  ov::Dimension length{};  ///< of the sequences that it takes
};

/// Throws klens::file_error: path, what is wrong, what to do.
[[nodiscard]] checked_ir check_ir(const std::shared_ptr<ov::Model>& model, const std::string& path);
[[nodiscard]] checked_ir read_ir(const std::filesystem::path& xml);

/// The weights of an IR, which OpenVINO looks for beside it.
[[nodiscard]] inline std::filesystem::path weights_file(const std::filesystem::path& xml) {
  return std::filesystem::path{xml}.replace_extension(".bin");
}

/// What happened, of an error of the runtime, whose messages begin with where they were thrown.
[[nodiscard]] std::string last_line(const std::exception& caught);

/// Carries work out; an error of the runtime becomes klens::error in one line that begins with `what`.
template <class Work>
auto in_one_line(const std::string& what, const Work& work) {
  try {
    return work();
  } catch (const ov::Exception& caught) {
    throw klens::error{what + ": " + last_line(caught)};
  }
}

}  // namespace openvino_adapter

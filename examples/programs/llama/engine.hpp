#pragma once

#include <functional>
#include <optional>
#include <string>

namespace llama_adapter {

/// Loads llama.cpp's backends and keeps it from printing: its messages are kept instead. Once, before anything else of it.
/// Throws klens::error where the library that was found when the program started is not the one it was built with.
void start_engine();

/// The first error that llama.cpp reported since the last call, on one line and without the name of its function; empty: none.
[[nodiscard]] std::string take_engine_error();

/// Does the work in a copy of this process, and says why that copy did not come to the end: an exception, a failed assertion of
/// ggml (which ends a process), a signal. Nothing where it did. Before the first thread is started.
[[nodiscard]] std::optional<std::string> failure_in_child(const std::function<void()>& work);

}  // namespace llama_adapter

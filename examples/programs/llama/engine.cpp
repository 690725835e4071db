#include "engine.hpp"

#include <ggml-backend.h>
#include <ggml.h>
#include <llama.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <klens/error.hpp>
#include <mutex>
#include <string_view>
#include <utility>

namespace llama_adapter {
namespace {

std::mutex guard;
std::string first_error;

void keep_message(ggml_log_level level, const char* text, void*) {
  if (level != GGML_LOG_LEVEL_ERROR) return;
  const std::lock_guard lock{guard};
  if (first_error.empty()) first_error = text;
}

// "function: error loading model: what is wrong\n" -> "what is wrong"
std::string without_origin(std::string message) {
  for (const std::string_view origin : {": error loading model: ", ": "})
    if (const std::size_t at = message.find(origin); at != message.npos) {
      message.erase(0, at + origin.size());
      break;
    }
  message.erase(message.find_last_not_of(" \n") + 1);
  std::ranges::replace(message, '\n', ' ');
  return message;
}

int child_pipe = -1;

void tell_parent(const char* message) {
  [[maybe_unused]] const ssize_t written = ::write(child_pipe, message, std::strlen(message));
}

[[noreturn]] void end_child(const char* message) {
  tell_parent(message);
  ::_exit(1);
}

std::string read_all(int from) {
  std::string all;
  std::array<char, 4096> part{};
  for (;;) {
    const ssize_t count = ::read(from, part.data(), part.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return all;
    all.append(part.data(), static_cast<std::size_t>(count));
  }
}

}  // namespace

void start_engine() {
  if (const std::string_view found = llama_version(); found != KLENS_LLAMA_VERSION)
    throw klens::error{"this program was built with libllama " KLENS_LLAMA_VERSION " and has found " + std::string{found} +
                       "; build it again, or set LD_LIBRARY_PATH to the one it was built with"};
#ifdef __GLIBC__
  ::mallopt(M_MMAP_THRESHOLD, 1 << 17);  // matrices go back to the system when they are freed, and leave no holes
#endif
  llama_log_set(keep_message, nullptr);
  ggml_backend_load_all();
  llama_backend_init();
}

std::string take_engine_error() {
  const std::lock_guard lock{guard};
  return without_origin(std::exchange(first_error, {}));
}

std::optional<std::string> failure_in_child(const std::function<void()>& work) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) throw klens::error{std::string{"a pipe cannot be made: "} + std::strerror(errno)};
  std::fflush(nullptr);  // what waits to be printed would be printed by both
  const pid_t child = ::fork();
  if (child < 0) throw klens::error{std::string{"a process cannot be started: "} + std::strerror(errno)};
  if (child == 0) {
    ::close(ends[0]);
    child_pipe = ends[1];
    ggml_set_abort_callback(end_child);
    try {
      work();
    } catch (const std::exception& caught) {
      end_child(caught.what());
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string told = read_all(ends[0]);
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return std::nullopt;
  if (told.empty()) told = WIFSIGNALED(status) ? std::string{"signal: "} + ::strsignal(WTERMSIG(status)) : "no reason given";
  std::ranges::replace(told, '\n', ' ');
  if (told.starts_with('/') || told.starts_with("../")) told.erase(0, told.rfind('/', told.find(':')) + 1);  // of a source file
  return told;
}

}  // namespace llama_adapter

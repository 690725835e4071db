#include "cold_start.hpp"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <klens/error.hpp>
#include <vector>

#include "ir_session.hpp"

namespace openvino_adapter {
namespace {

// Runs this program with other arguments and gives back what it says, on stdout and stderr.
std::string said_by_new_process(std::vector<std::string> arguments, bool& succeeded) {
  arguments.insert(arguments.begin(), std::filesystem::read_symlink("/proc/self/exe").string());
  std::vector<char*> words;
  for (std::string& each : arguments) words.push_back(each.data());
  words.push_back(nullptr);
  int ends[2];
  if (pipe(ends) != 0) throw klens::error{"a pipe to a new process could not be made"};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const int output : {STDOUT_FILENO, STDERR_FILENO}) posix_spawn_file_actions_adddup2(&actions, ends[1], output);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  pid_t child = 0;
  const int failed = posix_spawn(&child, words[0], &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string said;
  char some[4096];
  for (ssize_t count = 0; !failed && (count = read(ends[0], some, sizeof some)) > 0;)
    said.append(some, static_cast<std::size_t>(count));
  close(ends[0]);
  int status = 0;
  succeeded = !failed && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return said;
}

// Of this process. getrusage would not do: a process that was spawned starts from the peak of the one that spawned it.
std::uint64_t peak_bytes() {
  std::ifstream status{"/proc/self/status"};
  unsigned long long kilobytes = 0;
  for (std::string line; std::getline(status, line);)
    if (std::sscanf(line.c_str(), "VmHWM: %llu kB", &kilobytes) == 1) break;
  return kilobytes * 1024;
}

}  // namespace

ov::AnyMap fast_settings(const std::string& device, std::size_t threads) {
  ov::AnyMap settings{ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY)};
  if (device == "CPU") {
    settings.emplace(ov::num_streams(1));
    settings.emplace(ov::inference_num_threads(static_cast<int>(threads)));
    settings.emplace(ov::hint::enable_cpu_pinning(true));
  }
  return settings;
}

cold_start start_here(const start_request& request) {
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto seconds = [](auto from, auto to) { return std::chrono::duration<double>(to - from).count(); };
  const auto begun = now();
  ir_session session{read_ir(request.model), request.device, fast_settings(request.device, request.threads), 1};
  const auto loaded = now();
  session.run(std::vector<std::int32_t>(request.length, 0));
  const auto answered = now();
  return {seconds(begun, loaded), seconds(loaded, answered), peak_bytes()};
}

cold_start start_in_new_process(const start_request& request) {
  bool succeeded = false;
  const std::string said = said_by_new_process({"start", request.model.string(), "--device", request.device, "--length",
                                                std::to_string(request.length), "--threads", std::to_string(request.threads)},
                                               succeeded);
  cold_start measured;
  unsigned long long bytes = 0;
  if (!succeeded || std::sscanf(said.c_str(), "%lf %lf %llu", &measured.load_seconds, &measured.first_seconds, &bytes) != 3) {
    const std::string program = "klens-openvino: ";
    throw klens::error{said.starts_with(program) ? said.substr(program.size())
                                                 : request.model.string() + ": a new process cannot start it: " + said};
  }
  measured.peak_bytes = bytes;
  return measured;
}

}  // namespace openvino_adapter

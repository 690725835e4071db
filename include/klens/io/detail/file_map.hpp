#pragma once
// POSIX only (mmap).

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <klens/error.hpp>
#include <span>
#include <string>
#include <utility>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A regular file's bytes, mapped read-only: nothing is read before it is touched. An empty file maps to no bytes.
/// Throws file_error where there is none, where it may not be read, and for folders, devices and pipes.
class file_map {
 public:
  explicit file_map(const std::filesystem::path& path) {
    const int descriptor =
        ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // O_NONBLOCK: a pipe must not wait for a writer
    if (descriptor < 0) {
      const int why = errno;
      throw file_error(path.string() + ": cannot be read (" + std::strerror(why) + "); check the path and its permissions");
    }
    struct stat known {};
    void* address = nullptr;
    std::string problem;
    if (::fstat(descriptor, &known) != 0) {
      problem = std::string("cannot be examined (") + std::strerror(errno) + "); check its disk";
    } else if (!S_ISREG(known.st_mode)) {
      problem = std::string(S_ISDIR(known.st_mode) ? "is a folder" : "is not a regular file") + "; name a file";
    } else if (known.st_size > 0) {
      address = ::mmap(nullptr, static_cast<std::size_t>(known.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0);
      if (address == MAP_FAILED) problem = std::string("cannot be mapped (") + std::strerror(errno) + "); free some memory";
    }
    (void)::close(descriptor);  // the map keeps the file
    if (!problem.empty()) throw file_error(path.string() + ": " + problem);
    if (address != nullptr) bytes_ = {static_cast<const std::byte*>(address), static_cast<std::size_t>(known.st_size)};
  }
  file_map(file_map&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  file_map& operator=(file_map&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~file_map() {
    if (!bytes_.empty()) (void)::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }

  /// Gives back the memory of those pages that lie wholly in `part`; they are read again when touched.
  void release(std::span<const std::byte> part) const noexcept {
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const std::uintptr_t first = (reinterpret_cast<std::uintptr_t>(part.data()) + page - 1) / page * page;
    const std::uintptr_t last = reinterpret_cast<std::uintptr_t>(part.data() + part.size()) / page * page;
    if (first < last) (void)::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace klens::detail

#pragma once
// POSIX only (open, fsync, rename).

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <klens/error.hpp>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// A file that is there whole or not at all. What is written goes to a temporary file in the same folder; commit() makes it
/// durable and renames it over `target`. Without commit() the temporary file vanishes and an older `target` stays as it was.
/// Edges      an older file's permissions are kept; a symbolic link is followed; a device or pipe (/dev/stdout) is written
///            directly.
/// Throws     file_error, starting with the target's path: missing or unwritable folder, target is a folder, full disk.
class atomic_file {
 public:
  explicit atomic_file(std::filesystem::path target) : target_(std::move(target)) {
    struct stat known {};
    const bool exists = ::stat(target_.c_str(), &known) == 0;
    if (exists && S_ISDIR(known.st_mode)) throw file_error(target_.string() + ": is a folder; name a file in it");
    if (exists && !S_ISREG(known.st_mode)) {
      descriptor_ = ::open(target_.c_str(), O_WRONLY | O_CLOEXEC);
      if (descriptor_ < 0) fail("cannot be opened for writing", errno);
      return;
    }
    std::error_code none;
    final_ = exists ? std::filesystem::canonical(target_, none) : target_;
    if (none) final_ = target_;
    open_temporary();
    if (exists) (void)::fchmod(descriptor_, known.st_mode & 07777);  // a file system without permissions is no reason to fail
  }
  atomic_file(const atomic_file&) = delete;
  atomic_file& operator=(const atomic_file&) = delete;
  ~atomic_file() { discard(); }

  /// Appends bytes.
  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail("cannot be written", errno);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  }
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

  /// Puts the file in its place. Nothing can be written afterwards.
  void commit() {
    if (temporary_.empty()) {
      close_descriptor();
      return;
    }
    if (::fsync(descriptor_) != 0) fail("cannot be written to its disk", errno);
    if (close_descriptor() != 0) fail("cannot be written to its disk", errno);
    if (::rename(temporary_.c_str(), final_.c_str()) != 0) fail("cannot be put in place", errno);
    temporary_.clear();
    // The rename itself must outlive a power cut too; where a folder cannot be synced, the file is at least complete.
    const std::filesystem::path folder = final_.has_parent_path() ? final_.parent_path() : ".";
    if (const int handle = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); handle >= 0) {
      (void)::fsync(handle);
      (void)::close(handle);
    }
  }

 private:
  void open_temporary() {
    static std::atomic<std::uint64_t> counter{0};
    do {
      temporary_ = final_;
      temporary_ += ".partial-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
      descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (descriptor_ < 0 && errno == EEXIST);
    if (descriptor_ < 0) {
      const int why = errno;
      temporary_.clear();
      fail("cannot be created", why);
    }
  }

  [[noreturn]] void fail(const std::string& what, int why) {
    discard();
    const std::string_view cure = why == ENOENT || why == ENOTDIR                 ? "create its folder first"
                                  : why == EACCES || why == EROFS || why == EPERM ? "choose a folder that you may write to"
                                  : why == ENOSPC || why == EDQUOT                ? "free some space or choose another disk"
                                                                                  : "choose another place";
    throw file_error(target_.string() + ": " + what + " (" + std::strerror(why) + "); " + std::string(cure));
  }

  int close_descriptor() noexcept { return descriptor_ < 0 ? 0 : ::close(std::exchange(descriptor_, -1)); }

  void discard() noexcept {
    (void)close_descriptor();
    if (!temporary_.empty()) (void)::unlink(temporary_.c_str());
    temporary_.clear();
  }

  std::filesystem::path target_;     // as the caller named it: what messages say
  std::filesystem::path final_;      // with symbolic links followed
  std::filesystem::path temporary_;  // empty: written directly, or already in place
  int descriptor_ = -1;
};

/// Writes a whole file at once, as atomic_file does.
inline void write_file(const std::filesystem::path& target, std::string_view text) {
  atomic_file file{target};
  file.write(text);
  file.commit();
}

}  // namespace klens

#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <klens/error.hpp>
#include <span>
#include <string>
#include <vector>

namespace programs {

/// A 64-bit fingerprint of a run of bytes, to tell models and token sets apart by accident, not by attack.
class fingerprint_hasher {
 public:
  fingerprint_hasher& add(std::span<const std::byte> bytes) {
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + at, std::min(sizeof word, bytes.size() - at));
      mix(word);
    }
    mix(bytes.size());
    return *this;
  }
  fingerprint_hasher& add(std::uint64_t word) {
    mix(word);
    return *this;
  }
  [[nodiscard]] std::string text() const {
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(state_));
    return digits;
  }

 private:
  void mix(std::uint64_t word) noexcept {  // the finalizer of MurmurHash3 on a running xor
    state_ = std::rotl(state_, 5) ^ word;
    state_ = (state_ ^ (state_ >> 33)) * 0xff51afd7ed558ccdULL;
    state_ = (state_ ^ (state_ >> 33)) * 0xc4ceb9fe1a85ec53ULL;
    state_ ^= state_ >> 33;
  }
  std::uint64_t state_ = 0x6b6c656e73ULL;
};

/// Of files, by name and content.
[[nodiscard]] inline std::string fingerprint_of_files(std::vector<std::filesystem::path> files) {
  std::ranges::sort(files);
  fingerprint_hasher hasher;
  std::vector<char> buffer(std::size_t{1} << 20);
  for (const std::filesystem::path& each : files) {
    const std::string name = each.filename().string();
    hasher.add(std::as_bytes(std::span(name.data(), name.size())));
    std::ifstream stream{each, std::ios::binary};
    while (stream.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || stream.gcount() > 0)
      hasher.add(std::as_bytes(std::span(buffer.data(), static_cast<std::size_t>(stream.gcount()))));
    if (stream.bad()) throw klens::file_error{each.string() + ": cannot be read"};
  }
  return hasher.text();
}

/// What makes up a model's folder: config.json and every safetensors file of weights.
[[nodiscard]] inline std::vector<std::filesystem::path> files_of_folder(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator{folder}) {
    const std::filesystem::path name = entry.path().filename();
    const bool weights = name.extension() == ".safetensors" && name.string().starts_with("model");
    if (name == "config.json" || weights) files.push_back(entry.path());
  }
  return files;
}
[[nodiscard]] inline std::string fingerprint_of_folder(const std::filesystem::path& folder) {
  return fingerprint_of_files(files_of_folder(folder));
}

}  // namespace programs

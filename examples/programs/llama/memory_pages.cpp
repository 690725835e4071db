#include "memory_pages.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>

namespace llama_adapter {

bool is_mapped_file(const void* memory, std::size_t bytes) {
  const auto first = reinterpret_cast<std::uintptr_t>(memory);
  std::ifstream maps{"/proc/self/maps"};
  for (std::string line; std::getline(maps, line);) {  // 7f..00-7f..00 r--p 00000000 fe:00 1234   /path
    unsigned long begin = 0, end = 0, offset = 0, inode = 0;
    std::array<char, 5> access{};
    std::array<char, 16> device{};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s %lx %15s %lu", &begin, &end, access.data(), &offset, device.data(), &inode) != 6)
      continue;
    if (first < begin || first >= end) continue;
    return inode != 0 && std::string_view{access.data()}.starts_with("r-") && bytes <= end - first;
  }
  return false;
}

void give_back_pages(const void* memory, std::size_t bytes) noexcept {
  static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t first = (begin + page - 1) / page * page, end = (begin + bytes) / page * page;
  if (first < end) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

}  // namespace llama_adapter

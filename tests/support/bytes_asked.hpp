#pragma once
// Counts the memory that a test program asks for.

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace support {
inline std::atomic<std::size_t> bytes_asked{0};  // since a test set it to 0, whether given back or not
}

// noinline: g++ would otherwise see free() meet a pointer of operator new, and warn.
[[gnu::noinline]] void* operator new(std::size_t size) {
  support::bytes_asked += size;
  if (void* const memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {  // of std::stable_sort
  support::bytes_asked += size;
  return std::malloc(size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

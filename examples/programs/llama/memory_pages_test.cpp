// Pages of a mapped file leave memory and come back as they were.
#include "memory_pages.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "llama_test.hpp"

using namespace llama_adapter;

namespace {

constexpr std::size_t size = std::size_t{32} << 20;

// A file of `size` bytes, mapped.
struct mapping {
  int file;
  char* memory;

  explicit mapping(int protection) {
    std::ofstream{scratch("pages"), std::ios::binary} << std::string(size, 'x');
    file = ::open(scratch("pages").c_str(), O_RDWR);
    memory = static_cast<char*>(::mmap(nullptr, size, protection, MAP_PRIVATE, file, 0));
    REQUIRE(memory != MAP_FAILED);
  }
  mapping(const mapping&) = delete;
  mapping& operator=(const mapping&) = delete;
  ~mapping() {
    ::munmap(memory, size);
    ::close(file);
  }
  [[nodiscard]] std::size_t count_x() const { return static_cast<std::size_t>(std::count(memory, memory + size, 'x')); }
};

// Of files that are in this process's memory.
std::size_t resident_file_bytes() {
  std::size_t total = 0, resident = 0, shared = 0;
  std::ifstream{"/proc/self/statm"} >> total >> resident >> shared;
  return shared * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

TEST_CASE("memory_pages: a file's pages go, and are the file's again when they are read") {
  const mapping of{PROT_READ};
  REQUIRE(of.count_x() == size);
  CHECK(is_mapped_file(of.memory, size));
  CHECK(is_mapped_file(of.memory + 100, 1));
  const std::size_t before = resident_file_bytes();
  give_back_pages(of.memory + 1, size - 2);
  CHECK(before - resident_file_bytes() > size / 2);
  CHECK(of.count_x() == size);
}

TEST_CASE("memory_pages: what can be written, what is no file's and what goes beyond it is none to give back") {
  const mapping writable{PROT_READ | PROT_WRITE};
  CHECK_FALSE(is_mapped_file(writable.memory, size));
  const std::vector<char> heap(size, 'x');
  CHECK_FALSE(is_mapped_file(heap.data(), size));
  const char here = 'x';
  CHECK_FALSE(is_mapped_file(&here, 1));
  const mapping of{PROT_READ};
  CHECK_FALSE(is_mapped_file(of.memory, size + (std::size_t{1} << 40)));
  CHECK_FALSE(is_mapped_file(nullptr, 1));
}

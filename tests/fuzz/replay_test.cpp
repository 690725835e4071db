// Every file of the corpus through its reader, without libFuzzer.
#include "fuzz/readers.hpp"

#include <doctest/doctest.h>

#include <set>

namespace {

void replay(const char* kind, void (*read)(std::string_view), std::size_t at_least) {
  std::set<std::filesystem::path> files;  // in the same order everywhere
  for (const auto& each : std::filesystem::directory_iterator(std::filesystem::path(KLENS_TEST_DATA) / "../fuzz/corpus" / kind))
    files.insert(each.path());
  CHECK(files.size() >= at_least);
  for (const std::filesystem::path& file : files) {
    INFO(file.string());
    CHECK_NOTHROW(read(support::content_of(file)));
  }
}

}  // namespace

TEST_CASE("corpus: safetensors headers are read or refused") { replay("safetensors", fuzz::safetensors, 20); }
TEST_CASE("corpus: configs are read or refused") { replay("config", fuzz::config, 20); }
TEST_CASE("corpus: shard indices are read or refused") { replay("index", fuzz::index, 10); }

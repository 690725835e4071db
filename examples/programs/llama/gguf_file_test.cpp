#include "gguf_file.hpp"

#include <doctest/doctest.h>

#include <csignal>
#include <fstream>
#include <klens/error.hpp>
#include <optional>

#include "engine.hpp"
#include "llama_test.hpp"

namespace {

using namespace llama_adapter;

std::string refusal(const std::filesystem::path& path) {
  try {
    (void)gguf_file{path};
  } catch (const klens::file_error& caught) {
    return caught.what();
  }
  return "accepted";
}

std::string refusal_of_bytes(const std::string& bytes) {
  const std::filesystem::path path = scratch("bytes.gguf");
  std::ofstream{path, std::ios::binary} << bytes;
  return refusal(path);
}

}  // namespace

TEST_CASE("files that llama.cpp must not see are refused by name") {
  CHECK(holds(refusal(scratch("none.gguf")), "there is no such file"));
  CHECK(holds(refusal_of_bytes("PK"), "is no GGUF file"));
  CHECK(holds(refusal_of_bytes("GGUF"), "is damaged or cut short"));

  const std::string whole = support::content_of(written({}));
  CHECK(refusal_of_bytes(whole) == "accepted");
  for (const std::size_t length : {std::size_t{20}, std::size_t{300}, whole.size() / 2, whole.size() - 1}) {
    CAPTURE(length);
    CHECK(holds(refusal_of_bytes(whole.substr(0, length)), "cut short"));
  }

  CHECK(holds(refusal(written({.also = [](gguf_context* file) { gguf_set_val_u16(file, "split.count", 3); }})),
              "is one of 3 parts of a model; put them together"));
  CHECK(holds(refusal(written({.architecture = "perceptron"})), "cannot load it: unknown model architecture: 'perceptron'"));
  CHECK(holds(refusal(written({.heads = 0})), "cannot load it: "));
  // Heads that do not divide the width end in an assertion.
  CHECK(holds(refusal(written({.heads = 3})), "cannot load it: "));
}

TEST_CASE("what goes wrong in the other process is told in one line") {
  CHECK(failure_in_child([] {}) == std::nullopt);
  CHECK(failure_in_child([] { throw klens::error{"no such thing"}; }) == "no such thing");
  CHECK(holds(*failure_in_child([] { GGML_ASSERT(1 + 1 == 3); }), "1 + 1 == 3"));
  CHECK(holds(*failure_in_child([] { ::raise(SIGKILL); }), "signal: "));
}

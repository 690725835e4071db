// What a sketch of some tokens tells of others: long runs of the same text always, shorter than a run never.
#include <token_sketch.hpp>  // first: the header stands alone

#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <vector>

namespace {

std::vector<std::int32_t> random_tokens(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random{seed};
  std::vector<std::int32_t> tokens(count);
  for (std::int32_t& each : tokens) each = static_cast<std::int32_t>(random() % 50000);
  return tokens;
}

// `count` tokens of `from` from `first` on, within others.
std::vector<std::int32_t> quoting(const std::vector<std::int32_t>& from, std::size_t first, std::size_t count, std::size_t at) {
  std::vector<std::int32_t> tokens = random_tokens(500, 2);
  for (std::size_t i = 0; i < count; ++i) tokens[at + i] = from[first + i];
  return tokens;
}

}  // namespace

TEST_CASE("token sketch: 63 tokens of the same text are seen wherever they stand, 31 are not") {
  const std::vector<std::int32_t> scored = random_tokens(700, 1);
  const std::vector<std::uint64_t> sketch = programs::sketch_of(scored);
  CHECK(sketch.size() < 700 / 8);
  for (std::size_t first = 0; first + 63 <= scored.size(); ++first)
    for (const std::size_t at : {std::size_t{0}, std::size_t{41}, std::size_t{437}}) {
      const auto found = programs::find_overlap(sketch, quoting(scored, first, 63, at));
      REQUIRE(found);
      CHECK(*found >= at);
      CHECK(*found + programs::sketch_run <= at + 63);
      CHECK_FALSE(programs::find_overlap(sketch, quoting(scored, first, 31, at)));
    }
}

TEST_CASE("token sketch: short and repetitive texts") {
  CHECK(programs::sketch_of(random_tokens(31, 1)).empty());
  CHECK(programs::sketch_of(random_tokens(32, 1)).size() == 1);
  CHECK(programs::sketch_of({}).empty());
  CHECK(programs::sketch_of(std::vector<std::int32_t>(1000, 7)).size() == 1);
  CHECK(programs::find_overlap(programs::sketch_of(random_tokens(40, 1)), random_tokens(40, 1)));
  CHECK_FALSE(programs::find_overlap({}, random_tokens(100, 1)));
  for (const std::uint64_t each : programs::sketch_of(random_tokens(500, 3))) CHECK(each < std::uint64_t{1} << 53);
}

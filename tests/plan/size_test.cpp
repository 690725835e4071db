#include <klens/plan/size.hpp>
// first: the header stands alone
#include <doctest/doctest.h>

#include <cstdint>
#include <initializer_list>
#include <string>

using klens::parse_budget;

TEST_CASE("budget: each unit, by hand") {
  constexpr std::uint64_t weights = 4'161'024, fp16 = 2 * weights;
  CHECK(parse_budget("123456", weights, fp16) == 123456);
  CHECK(parse_budget("123456B", weights, fp16) == 123456);
  CHECK(parse_budget("4.5bpw", weights, fp16) == 2'340'576);
  CHECK(parse_budget("16bpw", weights, fp16) == fp16);
  CHECK(parse_budget("60%", weights, fp16) == 4'993'228);  // .8 is rounded down
  CHECK(parse_budget("100%", weights, fp16) == fp16);
  CHECK(parse_budget("3MB", weights, fp16) == 3'000'000);
  CHECK(parse_budget("2.5MiB", weights, fp16) == 2'621'440);
  CHECK(parse_budget("1.5KiB", weights, fp16) == 1536);
  CHECK(parse_budget("7kB", weights, fp16) == 7000);
  CHECK(parse_budget("7KB", weights, fp16) == 7000);
  CHECK(parse_budget("0.25GB", weights, fp16) == 250'000'000);
  CHECK(parse_budget("80GiB", weights, fp16) == 85'899'345'920);
  CHECK(parse_budget("1TB", weights, fp16) == 1'000'000'000'000);
  CHECK(parse_budget("2TiB", weights, fp16) == 2'199'023'255'552);
}

TEST_CASE("budget: decimals are exact where doubles are not") {
  CHECK(parse_budget("4.35MB", 8, 16) == 4'350'000);  // 4.35e6 is 4349999.9999999995 in double
  CHECK(parse_budget("1.1GB", 8, 16) == 1'100'000'000);
  CHECK(parse_budget("4.1bpw", 80, 160) == 41);
}

TEST_CASE("budget: rounded down, never above what was asked for") {
  CHECK(parse_budget("4.5bpw", 3, 6) == 1);  // 13.5 bits
  CHECK(parse_budget("99.9%", 500, 1000) == 999);
  CHECK(parse_budget("33.33%", 50, 100) == 33);
}

TEST_CASE("budget: everything else is refused, with the text") {
  for (const std::string text :
       {"",     "MB",      "-3MB", "+3MB", " 3MB", "3 MB", "3MB ", "3mb", "3Mb", "3 bpw", "bpw",    ".5MB",
        "5.MB", "1.2.3MB", "1e6",  "0x10", "inf",  "nan",  "3M",   "3%%", "1.5", "1,5MB", "4.5BPW", "1000000000000000000"}) {
    CAPTURE(text);
    CHECK_THROWS_AS((void)parse_budget(text, 1000, 2000), klens::argument_error);
  }
  for (const std::string text : {"0", "0MB", "0.0bpw", "0.001bpw", "0%", "0.0001B"}) {
    CAPTURE(text);
    CHECK_THROWS_AS((void)parse_budget(text, 100, 200), klens::argument_error);
  }
  CHECK_THROWS_AS((void)parse_budget("2000000TB", 100, 200), klens::argument_error);
  CHECK_THROWS_AS((void)parse_budget("999999999999999999TiB", 100, 200), klens::argument_error);
  CHECK_THROWS_WITH_AS((void)parse_budget("3 MB", 100, 200),
                       "budget '3 MB' has no unit that is known; write it like 4.5bpw, 3MB, 2.5MiB, 60% or 123456",
                       klens::argument_error);
  CHECK_THROWS_WITH_AS((void)parse_budget("0%", 100, 200),
                       "budget '0%' is nothing; write it like 4.5bpw, 3MB, 2.5MiB, 60% or 123456", klens::argument_error);
}

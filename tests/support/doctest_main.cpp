#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <locale>
#include <stdexcept>

// Under KLENS_TEST_LOCALE the tests run in that locale, as klens does inside a program that has set one.
int main(int argc, char** argv) {
  if (const char* const name = std::getenv("KLENS_TEST_LOCALE")) try {
      std::locale::global(std::locale{name});
    } catch (const std::runtime_error&) {
      std::fprintf(stderr, "KLENS_TEST_LOCALE: there is no locale '%s'\n", name);
      return 1;
    }
  return doctest::Context{argc, argv}.run();
}

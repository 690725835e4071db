#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <locale>
#include <stdexcept>

namespace {

int cases_run = 0;

struct case_counter : doctest::IReporter {
  explicit case_counter(const doctest::ContextOptions&) {}
  void test_case_start(const doctest::TestCaseData&) override { ++cases_run; }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("case_counter", 1, case_counter);

}  // namespace

// Under KLENS_TEST_LOCALE the tests run in that locale, as klens does inside a program that has set one. A filter that leaves no
// test is a mistake.
int main(int argc, char** argv) {
  if (const char* const name = std::getenv("KLENS_TEST_LOCALE")) try {
      std::locale::global(std::locale{name});
    } catch (const std::runtime_error&) {
      std::fprintf(stderr, "KLENS_TEST_LOCALE: there is no locale '%s'\n", name);
      return 1;
    }
  doctest::Context context{argc, argv};
  const int result = context.run();
  if (context.shouldExit() || cases_run > 0) return result;
  std::fprintf(stderr, "no test case was run\n");
  return 1;
}

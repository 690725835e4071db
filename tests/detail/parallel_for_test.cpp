#include <klens/detail/parallel_for.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using klens::detail::parallel_for;

TEST_CASE("parallel_for: every index once, whatever the number of threads") {
  for (const std::size_t threads : {0, 1, 2, 3, 8, 100})
    for (const std::size_t count : {0, 1, 2, 7, 64}) {
      std::vector<std::atomic<int>> called(count);
      parallel_for(threads, count, [&](std::size_t i) { ++called[i]; });
      for (const std::atomic<int>& each : called) CHECK(each == 1);
    }
}

TEST_CASE("parallel_for: of several exceptions that of the smallest index comes out, whichever is thrown first") {
  const auto wait_for = [](const auto& condition) {  // not for ever: a machine may refuse the second thread
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{5};
    while (!condition() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  };
  const auto message = [&](std::size_t first_to_throw) -> std::string {
    std::atomic<int> begun = 0;
    std::atomic<bool> thrown = false;
    try {
      parallel_for(2, 2, [&](std::size_t i) {
        ++begun;
        wait_for([&] { return begun == 2; });
        if (i != first_to_throw) {
          wait_for([&] { return thrown.load(); });
          std::this_thread::sleep_for(std::chrono::milliseconds{2});  // by then the other one has been caught
        }
        thrown = true;
        throw std::runtime_error{std::to_string(i)};
      });
    } catch (const std::runtime_error& caught) {
      return caught.what();
    }
    return "nothing was thrown";
  };
  for (int run = 0; run < 20; ++run) {
    CHECK(message(0) == "0");
    CHECK(message(1) == "0");
  }
}

TEST_CASE("parallel_for: that exception may be of any thread, the caller's own or another") {
  const auto wait_for = [](const std::atomic<bool>& begun) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{5};
    while (!begun && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  };
  // Who takes 0 waits until the other thread has done 1 and is at 2, and then takes 3: each thread throws at its last index.
  for (int run = 0; run < 20; ++run) {
    std::atomic<bool> at_two = false, at_three = false;
    CHECK_THROWS_WITH_AS(parallel_for(2, 4,
                                      [&](std::size_t i) {
                                        if (i == 0) wait_for(at_two);
                                        if (i == 2) at_two = true;
                                        if (i == 2) wait_for(at_three);
                                        if (i == 3) at_three = true;
                                        if (i >= 2) throw std::runtime_error{std::to_string(i)};
                                      }),
                         "2", std::runtime_error);
  }
}

TEST_CASE("parallel_for: after an exception no further index is begun, and all threads are back") {
  for (const std::size_t threads : {1, 4}) {
    std::atomic<std::size_t> begun = 0, ended = 0;
    CHECK_THROWS_AS(parallel_for(threads, 100000,
                                 [&](std::size_t i) {
                                   ++begun;
                                   if (i == 3) throw std::runtime_error{"three"};
                                   std::this_thread::sleep_for(std::chrono::microseconds{100});
                                   ++ended;
                                 }),
                    std::runtime_error);
    CHECK(begun < 100000);
    CHECK(ended + 1 == begun);
  }
}

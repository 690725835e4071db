#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace klens::detail {

/// Calls body(i) once for each i below count, on at most `threads` threads (the caller's is one of them; 0 counts as 1). Which
/// thread takes which index is open, so bodies write to places of their own. After an exception no further index is begun; of
/// several, the one of the smallest index is rethrown.
template <class Body>
void parallel_for(std::size_t threads, std::size_t count, const Body& body) {
  threads = std::min(threads, count);
  if (threads <= 1) {
    for (std::size_t i = 0; i < count; ++i) body(i);
    return;
  }
  std::atomic<std::size_t> next{0};
  std::mutex guard;
  std::exception_ptr failure;
  std::size_t failed_index = count;
  const auto work = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        body(i);
      } catch (...) {
        const std::lock_guard lock{guard};
        if (i < failed_index) {
          failed_index = i;
          failure = std::current_exception();
        }
        next = count;
      }
    }
  };
  std::vector<std::thread> others;
  others.reserve(threads - 1);
  try {
    for (std::size_t t = 1; t < threads; ++t) others.emplace_back(work);
  } catch (...) {  // the system gives no further thread: those that are there do the work
  }
  work();
  for (std::thread& each : others) each.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace klens::detail

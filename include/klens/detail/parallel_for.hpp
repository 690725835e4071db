#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <klens/detail/instruction_set.hpp>
#include <thread>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// parallel_for without its template: body(context, i) for each i. Threads cost a compiler much, so there is one copy of them.
inline void run_in_parallel(std::size_t threads, std::size_t count, void (*body)(const void* context, std::size_t index),
                            const void* context) {
  struct failure {
    std::size_t index;
    std::exception_ptr exception;
  };
  std::atomic<std::size_t> next{0};
  std::vector<failure> failures(threads, failure{count, nullptr});  // of each thread its first, which has its smallest index
  const auto work = [&](std::size_t thread) {
    std::size_t i = next++;
    try {
      for (; i < count; i = next++) body(context, i);
    } catch (...) {
      failures[thread] = {i, std::current_exception()};
      next = count;
    }
  };
  std::vector<std::thread> others;
  others.reserve(threads - 1);
  try {
    for (std::size_t t = 1; t < threads; ++t) others.emplace_back(work, t);
  } catch (...) {  // the system gives no further thread: those that are there do the work
  }
  work(0);
  for (std::thread& each : others) each.join();
  const auto first =
      std::min_element(failures.begin(), failures.end(), [](const failure& a, const failure& b) { return a.index < b.index; });
  if (first->exception) std::rethrow_exception(first->exception);
}

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
  run_in_parallel(
      threads, count, [](const void* context, std::size_t i) { (*static_cast<const Body*>(context))(i); }, &body);
}

}  // namespace klens::detail

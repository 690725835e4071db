#pragma once
// The loop over threads that klens itself uses: klens::parallel_for(threads, count, [&](std::size_t i) { ... });

#include <klens/detail/parallel_for.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET {

using detail::parallel_for;

}  // namespace klens

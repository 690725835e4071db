#pragma once
// The loop over threads that klens itself uses: klens::parallel_for(threads, count, [&](std::size_t i) { ... });

#include <klens/detail/parallel_for.hpp>

namespace klens {

using detail::parallel_for;

}  // namespace klens

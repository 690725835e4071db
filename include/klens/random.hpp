#pragma once
// Random numbers that are the same on every machine, for draws that must be repeatable: klens::random_stream random{seed};

#include <klens/detail/random.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET {

using detail::random_stream;

}  // namespace klens

#pragma once
// Random numbers that are the same on every machine, for draws that must be repeatable: klens::random_stream random{seed};

#include <klens/detail/random.hpp>

namespace klens {

using detail::random_stream;

}  // namespace klens

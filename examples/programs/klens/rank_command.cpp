#include "commands.hpp"
#include "rank_scan.hpp"

namespace programs {

bool rank(const rank_arguments& arguments) { return rank_scan{arguments, true}.rank(arguments.checkpoint); }

}  // namespace programs

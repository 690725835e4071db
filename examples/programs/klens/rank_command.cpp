#include "commands.hpp"
#include "rank_scan.hpp"

namespace programs {

bool rank(const rank_arguments& arguments) {
  rank_scan scan{arguments};
  const klens::scores scores = scan.run(scan.tokens(), arguments.checkpoint, true);
  scan.report(scores);
  return scores.complete;
}

}  // namespace programs

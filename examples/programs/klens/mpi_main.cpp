// klens under MPI: rank spreads the sequences over processes. Every process has a model of its own; sums are kept by sequence,
// so the scores are, bit for bit, those of one process.

#include <mpi.h>

#include <cstdio>
#include <exception>
#include <klens/io/scores_json.hpp>
#include <klens/rank/merge.hpp>
#include <string>
#include <vector>

#include "command_line.hpp"
#include "rank_scan.hpp"

namespace {

int own_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}
int processes() {
  int count = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &count);
  return count;
}

// The texts of all processes, in their order; only process 0 gets them.
std::vector<std::string> gather(const std::string& own) {
  const auto count = static_cast<std::size_t>(processes());
  unsigned long long length = own.size();
  std::vector<unsigned long long> lengths(count);
  MPI_Gather(&length, 1, MPI_UNSIGNED_LONG_LONG, lengths.data(), 1, MPI_UNSIGNED_LONG_LONG, 0, MPI_COMM_WORLD);
  constexpr std::size_t at_once = std::size_t{1} << 30;  // MPI counts in int
  std::vector<std::string> all(count);
  if (own_rank() != 0) {
    for (std::size_t at = 0; at < own.size(); at += at_once)
      MPI_Send(own.data() + at, static_cast<int>(std::min(at_once, own.size() - at)), MPI_CHAR, 0, 0, MPI_COMM_WORLD);
    return all;
  }
  all[0] = own;
  for (std::size_t p = 1; p < count; ++p) {
    all[p].resize(lengths[p]);
    for (std::size_t at = 0; at < all[p].size(); at += at_once)
      MPI_Recv(all[p].data() + at, static_cast<int>(std::min(at_once, all[p].size() - at)), MPI_CHAR, static_cast<int>(p), 0,
               MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
  return all;
}

bool rank_with_mpi(const programs::rank_arguments& arguments) {
  const auto count = static_cast<std::size_t>(processes()), own = static_cast<std::size_t>(own_rank());
  if (arguments.stop != "exhaustive")
    throw klens::argument_error{"--stop: looks at all sequences together; run it in one process"};
  if (arguments.positions != 0) throw klens::argument_error{"--positions: drawn across all sequences; run it in one process"};
  if (arguments.from != "reference") throw klens::argument_error{"--from quantized: run it in one process"};
  if (arguments.method != "exact") throw klens::argument_error{"--method " + arguments.method + ": run it in one process"};
  programs::rank_scan scan{arguments};
  const programs::token_set& all = scan.tokens();
  if (all.sequences < count)
    throw klens::argument_error{std::to_string(count) + " processes share " + std::to_string(all.sequences) +
                                " sequences; use no more processes than sequences"};
  const std::size_t first = own * all.sequences / count, end = (own + 1) * all.sequences / count;
  const programs::token_set part = all.part(first, end - first);

  std::filesystem::path checkpoint = arguments.checkpoint;
  if (!checkpoint.empty()) checkpoint += "." + std::to_string(own) + "-of-" + std::to_string(count);
  const klens::scores found = scan.run(part, checkpoint, own == 0);
  const std::vector<std::string> texts = gather(klens::to_json(klens::scores_file{{}, found}).dump());
  bool complete = true;
  if (own == 0) {
    klens::scores joint = found;
    for (std::size_t p = 1; p < count; ++p)
      joint = klens::merge(joint, klens::scores_from_json(nlohmann::json::parse(texts[p])).result);
    scan.report(joint);
    complete = joint.complete;
  }
  return complete;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  const int exit_code = programs::run_command_line(argc, argv, rank_with_mpi);
  if (exit_code == 2) MPI_Abort(MPI_COMM_WORLD, exit_code);  // the others wait for this one: end them, too
  MPI_Finalize();
  return exit_code;
}

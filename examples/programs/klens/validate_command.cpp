#include <cstdio>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <optional>
#include <string>

#include "commands.hpp"
#include "rank_scan.hpp"
#include "token_file.hpp"
#include "validate_report.hpp"
#include "validate_study.hpp"

namespace programs {
namespace {

std::filesystem::path part_of(std::filesystem::path checkpoint, const char* part) {
  return checkpoint.empty() ? checkpoint : checkpoint += part;
}

token_set held_out_tokens(const validate_arguments& arguments, const rank_scan& scan) {
  token_choice choice = arguments.held_out;
  choice.length = scan.tokens().length;
  token_set tokens = read_tokens(choice, scan.loaded().vocabulary(), scan.tokens().length);
  expect_next_tokens(tokens);
  if (const auto shared = shared_run(scan.tokens(), tokens))
    throw klens::file_error{choice.file.string() + ": its text from input_ids[" + std::to_string(*shared) +
                            "] on is also calibration text; hold other text out (--held-out-first)"};
  if (scan.tokens().sequences < 2 || tokens.sequences < 2)
    throw klens::argument_error{"intervals come from the spread between sequences: use at least 2 of each token file"};
  return tokens;
}

}  // namespace

bool validate(const validate_arguments& arguments) {
  if (!arguments.html.empty()) klens::atomic_file{arguments.html};
  rank_scan scan{arguments.rank};
  const token_set held_out = held_out_tokens(arguments, scan);
  const std::filesystem::path& checkpoint = arguments.rank.checkpoint;
  const klens::scores calibrated = scan.run(scan.tokens(), part_of(checkpoint, ".calibration"), false, "calibration: ");
  std::optional<klens::scores> measured;
  if (calibrated.complete) measured = scan.run(held_out, part_of(checkpoint, ".held-out"), false, "held out: ");
  if (!measured || !measured->complete) {
    std::fprintf(stderr, "klens: interrupted; nothing can be compared yet%s\n",
                 checkpoint.empty() ? "" : ", but the same command goes on from its last whole batch");
    return false;
  }
  const study all =
      compare_with_perplexity(calibrated, *measured, scan.layers(), {arguments.resamples, arguments.seed, arguments.ablations});
  const study_origin origin{arguments.rank.run.model.string(), arguments.rank.run.tokens.file.string(),
                            arguments.held_out.file.string(), &calibrated, &*measured};
  print_study(all, origin, arguments.all);
  if (!arguments.rank.output.empty()) {
    klens::write_file(arguments.rank.output, study_json(all, origin));
    std::printf("\nreport written to %s\n", arguments.rank.output.c_str());
  }
  if (!arguments.html.empty()) {
    klens::write_file(arguments.html, study_page(all, origin));
    std::printf("\npage written to %s\n", arguments.html.c_str());
  }
  return true;
}

}  // namespace programs

#include <chrono>
#include <cmath>
#include <cstdio>
#include <klens/detail/parallel_for.hpp>
#include <klens/error.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "commands.hpp"
#include "engine/model.hpp"
#include "hybrid_forward.hpp"
#include "measured_version.hpp"
#include "terminal.hpp"

namespace programs {

void evaluate(const run_arguments& arguments) {
  const model loaded = model::load(arguments.model);
  const token_set tokens = read_tokens(arguments.tokens, loaded.vocabulary(), 256);
  if (tokens.length < 2) throw klens::argument_error{"--length 1: no token has a next one to predict; use 2 or more"};
  const hybrid_forward forward{loaded, tokens, arguments.sequences_per_batch(), arguments.threads};

  progress_line line;
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  std::vector<double> nll_of_sequence;
  for (std::size_t batch = 0; batch < forward.batches(); ++batch) {
    const state at = forward.end(batch);
    std::vector<double> sums(at.sequences, 0.0);
    klens::detail::parallel_for(arguments.threads, at.sequences, [&](std::size_t s) {
      std::vector<std::size_t> rows(at.length - 1);
      std::iota(rows.begin(), rows.end(), s * at.length);
      const klens::matrix<float> logits = forward.logits(at, rows);
      for (std::size_t i = 0; i < rows.size(); ++i)
        sums[s] += next_token_nll(klens::row(logits, static_cast<Eigen::Index>(i)), at.tokens[rows[i] + 1]);
    });
    nll_of_sequence.insert(nll_of_sequence.end(), sums.begin(), sums.end());
    const double done = static_cast<double>(batch + 1) / static_cast<double>(forward.batches());
    line.show(
        text("batch %zu/%zu  %s left", batch + 1, forward.batches(), duration_text(seconds() * (1 - done) / done).c_str()));
  }
  line.clear();

  double total = 0;
  for (const double each : nll_of_sequence) total += each;
  const double positions = static_cast<double>(tokens.sequences * (tokens.length - 1));
  const double mean = total / positions;
  double squares = 0;
  for (const double each : nll_of_sequence) squares += std::pow(each / static_cast<double>(tokens.length - 1) - mean, 2);
  const auto n = static_cast<double>(tokens.sequences);
  std::printf(
      "nll         %.6f nats/token%s\n", mean,
      tokens.sequences > 1 ? text(" (standard error %.6f between sequences)", std::sqrt(squares / (n - 1) / n)).c_str() : "");
  std::printf("perplexity  %.4f\n", std::exp(mean));
  std::printf("positions   %.0f in %zu sequences of %zu tokens\n", positions, tokens.sequences, tokens.length);
  std::printf("speed       %.0f tokens/s on %zu threads\n", static_cast<double>(tokens.tokens.size()) / seconds(),
              arguments.threads);
}

}  // namespace programs

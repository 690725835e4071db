#include <chrono>
#include <cmath>
#include <cstdio>
#include <klens/error.hpp>
#include <klens/parallel_for.hpp>
#include <klens/plan/measure.hpp>
#include <klens/stats/interval.hpp>
#include <optional>
#include <string>
#include <vector>

#include "commands.hpp"
#include "engine/model.hpp"
#include "hybrid_forward.hpp"
#include "joint_versions.hpp"
#include "load_model.hpp"
#include "model_limits.hpp"
#include "model_sampler.hpp"
#include "terminal.hpp"
#include "token_file.hpp"

namespace programs {

void evaluate(const evaluate_arguments& asked) {
  const run_arguments& arguments = asked.run;
  model loaded = load_model(arguments);
  const token_set tokens = tokens_for(sampler_of(loaded, arguments.threads), arguments.tokens, 256);
  expect_next_tokens(tokens);
  remark_on_length(arguments.model, tokens);
  std::optional<joint_versions> joint;
  if (asked.versions.empty() && asked.layout != site_layout{})
    throw klens::argument_error{"--kv-by-channel and --activations-per-tensor: say with --schemes what is stored so"};
  if (!asked.versions.empty()) joint.emplace(loaded, asked.versions, tokens.length, asked.layout);
  const hybrid_forward forward{loaded, tokens, arguments.sequences_per_batch(), arguments.threads};

  progress_line line;
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  std::vector<klens::contribution> nll_of_sequence;  // and how many tokens were predicted
  for (std::size_t batch = 0; batch < forward.batches(); ++batch) {
    const state at = forward.end(batch);
    const std::size_t first = nll_of_sequence.size() * tokens.length;
    std::vector<klens::contribution> sums(at.sequences, klens::contribution{0, 0});
    klens::parallel_for(arguments.threads, at.sequences, [&](std::size_t s) {
      std::vector<std::size_t> rows;
      for (std::size_t row = s * at.length; row < (s + 1) * at.length; ++row)
        if (tokens.has_next(first + row)) rows.push_back(row);
      if (rows.empty()) return;
      const klens::matrix<float> logits = forward.logits(at, rows);
      for (std::size_t i = 0; i < rows.size(); ++i)
        sums[s].value += klens::next_token_nll(klens::row(logits, static_cast<Eigen::Index>(i)), at.tokens[rows[i] + 1]);
      sums[s].weight = static_cast<double>(rows.size());
    });
    nll_of_sequence.insert(nll_of_sequence.end(), sums.begin(), sums.end());
    const double done = static_cast<double>(batch + 1) / static_cast<double>(forward.batches());
    line.show(
        text("batch %zu/%zu  %s left", batch + 1, forward.batches(), duration_text(seconds() * (1 - done) / done).c_str()));
  }
  line.clear();

  const double mean = klens::mean_of(nll_of_sequence);
  double positions = 0, squares = 0;
  for (const klens::contribution& each : nll_of_sequence) {
    positions += each.weight;
    squares += std::pow(each.value - mean * each.weight, 2);
  }
  const auto n = static_cast<double>(tokens.sequences);
  const double error = std::sqrt(squares * n / (n - 1)) / positions;
  std::printf("nll         %.6f nats/token%s\n", mean,
              tokens.sequences > 1 ? text(" (standard error %.6f between sequences)", error).c_str() : "");
  std::printf("perplexity  %.4f\n", std::exp(mean));
  std::printf("positions   %.0f in %s\n", positions, size_text(tokens).c_str());
  std::printf("speed       %.0f tokens/s on %zu threads\n", static_cast<double>(tokens.tokens.size()) / seconds(),
              arguments.threads);
  if (joint) joint->print(tokens, arguments);
}

}  // namespace programs

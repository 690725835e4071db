#include "token_sampler.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <klens/io/safetensors.hpp>
#include <klens/parallel_for.hpp>
#include <klens/random.hpp>
#include <string>

#include "terminal.hpp"
#include "token_file.hpp"

namespace programs {
namespace {

/// The token at a place in [0, 1) of the softmax of the logits, in the order of the vocabulary.
std::int32_t token_at(double place, std::span<const float> logits) {
  const double most = *std::ranges::max_element(logits);
  double total = 0;
  for (const float each : logits) total += std::exp(static_cast<double>(each) - most);
  double left = place * total;
  for (std::size_t token = 0; token < logits.size(); ++token) {
    left -= std::exp(static_cast<double>(logits[token]) - most);
    if (left < 0) return static_cast<std::int32_t>(token);
  }
  return static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin());  // rounding ate the last one
}

/// How far all tokens are, on the terminal.
class sampling_progress {
 public:
  explicit sampling_progress(std::size_t wanted) : wanted_{wanted} {}

  void show(std::size_t made) {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const auto done = static_cast<double>(made), all = static_cast<double>(wanted_);
    line_.show(text("generating token %zu/%zu  %s left", made, wanted_, duration_text(seconds / done * (all - done)).c_str()));
  }

 private:
  std::size_t wanted_;
  progress_line line_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

std::vector<std::int32_t> sample_tokens(const token_sampler& of, std::size_t sequences, std::size_t length,
                                        std::uint64_t seed) {
  std::vector<std::int32_t> all(sequences * length);
  sampling_progress progress{all.size()};
  for (std::size_t first = 0; first < sequences; first += std::min(of.at_once, sequences - first)) {
    const std::size_t count = std::min(of.at_once, sequences - first);
    std::vector<klens::random_stream> draws;
    std::vector<std::int32_t> newest;
    for (std::size_t s = first; s < first + count; ++s) {
      draws.emplace_back(seed, s);
      newest.push_back(of.beginning ? *of.beginning : static_cast<std::int32_t>(draws.back().below(of.vocabulary)));
      all[s * length] = newest.back();
    }
    const token_sampler::next_logits next = of.begin(count, length);
    for (std::size_t position = 1; position < length; ++position) {
      const klens::matrix<float> logits = next(newest);
      klens::parallel_for(of.threads, count, [&](std::size_t s) {
        const std::span<const float> row = klens::row(logits, static_cast<Eigen::Index>(s));
        if (!std::ranges::all_of(row, [](float each) { return std::isfinite(each); }))
          throw klens::numeric_error{"the model's logits are not finite after " + std::to_string(position) +
                                     " tokens of its own; its weights may be broken"};
        newest[s] = all[(first + s) * length + position] = token_at(draws[s].uniform(), row);
      });
      progress.show(first * length + (position + 1) * count);
    }
  }
  return all;
}

token_set generate_tokens(const token_sampler& of, const token_choice& choice, std::size_t default_length) {
  token_set made;
  made.length = std::min(choice.length.value_or(default_length == 0 ? 256 : default_length), choice.generated);
  if (made.length < 2) throw klens::argument_error{"--length: a sequence that is generated needs at least two tokens"};
  made.sequences = choice.generated / made.length;
  if (!choice.keep_at.empty())
    klens::atomic_file{choice.keep_at};  // one that cannot be written is better known before the work
  made.tokens = sample_tokens(of, made.sequences, made.length, choice.seed);
  if (!choice.keep_at.empty()) {
    const klens::stored_tensor ids{"input_ids", "I32", {made.sequences, made.length}, std::as_bytes(std::span(made.tokens))};
    klens::write_safetensors(choice.keep_at, std::span(&ids, 1));
    std::fprintf(stderr, "klens: tokens written to %s\n", choice.keep_at.c_str());
  }
  return made;
}

token_set tokens_for(const token_sampler& of, const token_choice& choice, std::size_t default_length,
                     std::size_t default_sequences) {
  if (choice.generated > 0) return generate_tokens(of, choice, default_length);
  if (choice.file.empty())
    throw klens::argument_error{
        "there are no tokens; name their file (--tokens, --held-out), or let the model make some (--generate 4096)"};
  return read_tokens(choice, of.vocabulary, default_length, default_sequences);
}

}  // namespace programs

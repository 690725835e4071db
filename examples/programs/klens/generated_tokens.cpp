#include "generated_tokens.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <klens/io/safetensors.hpp>
#include <klens/parallel_for.hpp>
#include <klens/random.hpp>
#include <numeric>
#include <span>
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

/// What --generate asks for, as token_set.
token_set generate(const model& of, const token_choice& choice, std::size_t threads, std::size_t default_length) {
  if (choice.generated < 2)
    throw klens::argument_error{"--generate " + std::to_string(choice.generated) + ": two tokens are the least"};
  if (choice.sequences || choice.first != 0)
    throw klens::argument_error{"--generate makes as many sequences as its tokens fill; leave --sequences and --first away"};
  token_set made;
  made.length = std::min(choice.length.value_or(default_length == 0 ? 256 : default_length), choice.generated);
  if (made.length < 2) throw klens::argument_error{"--length: a sequence that is generated needs at least two tokens"};
  made.sequences = choice.generated / made.length;
  if (!choice.keep_at.empty()) klens::atomic_file{choice.keep_at};
  made.tokens = sample_tokens(of, made.sequences, made.length, choice.seed, threads);
  if (!choice.keep_at.empty()) {
    const klens::stored_tensor ids{"input_ids", "I32", {made.sequences, made.length}, std::as_bytes(std::span(made.tokens))};
    klens::write_safetensors(choice.keep_at, std::span(&ids, 1));
    std::fprintf(stderr, "klens: tokens written to %s\n", choice.keep_at.c_str());
  }
  return made;
}

}  // namespace

std::vector<std::int32_t> sample_tokens(const model& of, std::size_t sequences, std::size_t length, std::uint64_t seed,
                                        std::size_t threads) {
  std::vector<klens::random_stream> draws;
  std::vector<std::int32_t> next, all(sequences * length);
  for (std::size_t s = 0; s < sequences; ++s) {
    draws.emplace_back(seed, s);
    next.push_back(of.begin_token().value_or(static_cast<std::int32_t>(draws.back().below(of.vocabulary()))));
    all[s * length] = next.back();
  }
  state at = of.begin(next, sequences, 1);
  at.before.resize(sequences);
  std::vector<std::size_t> rows(sequences);
  std::iota(rows.begin(), rows.end(), std::size_t{0});
  progress_line line;
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t position = 1; position < length; ++position) {
    for (std::size_t stage = 0; stage < of.stages(); ++stage) of.advance(at, stage, threads);
    const klens::matrix<float> logits = of.logits(at, rows, threads);
    klens::parallel_for(threads, sequences, [&](std::size_t s) {
      const std::span<const float> row = klens::row(logits, static_cast<Eigen::Index>(s));
      if (!std::ranges::all_of(row, [](float each) { return std::isfinite(each); }))
        throw klens::numeric_error{"the model's logits are not finite after " + std::to_string(position) +
                                   " tokens of its own; its weights may be broken"};
      next[s] = all[s * length + position] = token_at(draws[s].uniform(), row);
    });
    at = of.go_on(std::move(at), next);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const auto done = static_cast<double>(position), wanted = static_cast<double>(length);
    line.show(text("generating token %zu/%zu of %zu sequences  %s left", position, length, sequences,
                   duration_text(seconds / done * (wanted - done)).c_str()));
  }
  line.clear();
  return all;
}

token_set tokens_for(const model& of, const token_choice& choice, std::size_t threads, std::size_t default_length,
                     std::size_t default_sequences) {
  if (choice.generated > 0) return generate(of, choice, threads, default_length);
  if (choice.file.empty())
    throw klens::argument_error{
        "there are no tokens; name their file (--tokens, --held-out), or let the model make some (--generate 4096)"};
  return read_tokens(choice, of.vocabulary(), default_length, default_sequences);
}

}  // namespace programs

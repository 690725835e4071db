#include "llama_tokens.hpp"

#include <cstdio>
#include <fstream>
#include <iterator>
#include <klens/error.hpp>
#include <memory>
#include <optional>
#include <span>

#include "growing_sequences.hpp"
#include "token_file.hpp"
#include "token_sampler.hpp"

namespace llama_adapter {
namespace {

constexpr std::size_t default_length = 256, default_sequences = 16;

std::string read_text(const std::filesystem::path& path) {
  std::ifstream stream{path, std::ios::binary};
  if (!stream || std::filesystem::is_directory(path)) throw klens::file_error{path.string() + ": cannot be read"};
  return {std::istreambuf_iterator<char>{stream}, {}};
}

programs::token_sampler sampler_of(const gguf_model& model, std::size_t threads) {
  const auto begin = [&model, threads](std::size_t sequences, std::size_t length) {
    const auto grown = std::make_shared<growing_sequences>(model.handle(), sequences, length, threads);
    return [grown](std::span<const std::int32_t> newest) { return grown->after(newest); };
  };
  return {model.vocabulary(), model.begin_token(), threads, threads * growing_sequences::in_context, begin};
}

programs::token_set tokens_of(const programs::run_arguments& run, const llama_arguments& of_llama, const gguf_model& model) {
  const programs::token_choice& choice = run.tokens;
  if (choice.generated > 0) return programs::generate_tokens(sampler_of(model, run.threads), choice, default_length);
  if (choice.file.empty() == of_llama.text.empty())
    throw klens::argument_error{"give one of --file and --tokens, or let the model make some (--generate 4096)"};
  if (of_llama.text.empty()) return programs::read_tokens(choice, model.vocabulary(), default_length, default_sequences);

  programs::token_set set;
  set.length = choice.length.value_or(default_length);
  if (set.length == 0) throw klens::argument_error{"--context 0: a sequence needs at least one token"};
  if (choice.sequences == std::size_t{0}) throw klens::argument_error{"--chunks 0: there is nothing to measure on"};
  const std::vector<std::int32_t> all = model.tokens_of(read_text(of_llama.text), !of_llama.plain_text);
  const std::size_t available = (all.size() - std::min(all.size(), choice.first)) / set.length;
  set.sequences = std::min(available, choice.sequences.value_or(default_sequences));
  if (set.sequences < choice.sequences.value_or(1))
    throw klens::file_error{of_llama.text.string() + ": makes " + std::to_string(all.size()) + " tokens, " +
                            std::to_string(available) + " sequences of " + std::to_string(set.length) + " after the first " +
                            std::to_string(choice.first) + "; give a longer text or a smaller --context, --chunks or --first"};
  const auto first = all.begin() + static_cast<std::ptrdiff_t>(choice.first);
  set.tokens.assign(first, first + static_cast<std::ptrdiff_t>(set.sequences * set.length));
  if (const std::optional<std::int32_t> beginning = model.beginning())
    for (std::size_t s = 0; s < set.sequences; ++s) set.tokens[s * set.length] = *beginning;
  return set;
}

}  // namespace

programs::token_set tokens_for(const programs::run_arguments& run, const llama_arguments& of_llama, const gguf_model& model) {
  programs::token_set tokens = tokens_of(run, of_llama, model);
  programs::expect_next_tokens(tokens);
  if (const std::size_t trained = model.trained_length(); trained > 0 && tokens.length > trained)
    std::fprintf(
        stderr,
        "klens-llama: sequences of %zu tokens are longer than this model's context_length of %zu, for which it was made; "
        "use --context\n",
        tokens.length, trained);
  return tokens;
}

}  // namespace llama_adapter

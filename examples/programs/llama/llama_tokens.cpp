#include "llama_tokens.hpp"

#include <cstdio>
#include <fstream>
#include <iterator>
#include <klens/error.hpp>
#include <optional>

#include "token_file.hpp"

namespace llama_adapter {
namespace {

constexpr std::size_t default_length = 256, default_sequences = 16;

std::string read_text(const std::filesystem::path& path) {
  std::ifstream stream{path, std::ios::binary};
  if (!stream || std::filesystem::is_directory(path)) throw klens::file_error{path.string() + ": cannot be read"};
  return {std::istreambuf_iterator<char>{stream}, {}};
}

programs::token_set tokens_of(const programs::token_choice& choice, const llama_arguments& of_llama, const gguf_model& model) {
  if (choice.file.empty() == of_llama.text.empty()) throw klens::argument_error{"give one of --file and --tokens"};
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

programs::token_set read_tokens(const programs::token_choice& choice, const llama_arguments& of_llama,
                                const gguf_model& model) {
  programs::token_set tokens = tokens_of(choice, of_llama, model);
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

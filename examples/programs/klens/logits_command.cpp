#include <cstdio>
#include <klens/io/safetensors.hpp>
#include <span>
#include <vector>

#include "commands.hpp"
#include "engine/model.hpp"
#include "hybrid_forward.hpp"
#include "terminal.hpp"

namespace programs {

void logits(const run_arguments& arguments, const std::filesystem::path& output) {
  klens::atomic_file file{output};
  const model loaded = model::load(arguments.model);
  const token_set tokens = read_tokens(arguments.tokens, loaded.vocabulary(), 0);
  const hybrid_forward forward{loaded, tokens, arguments.sequences_per_batch(), arguments.threads};

  const std::vector<klens::stored_tensor> announced{
      {"logits", "F32", {tokens.sequences, tokens.length, loaded.vocabulary()}, {}}};
  file.write(klens::safetensors_header(announced));
  progress_line line;
  for (std::size_t batch = 0; batch < forward.batches(); ++batch) {  // never more than a batch in memory
    const klens::matrix<float> values = forward.logits(forward.end(batch));
    file.write(std::as_bytes(std::span(values.data(), static_cast<std::size_t>(values.size()))));
    line.show(text("batch %zu/%zu", batch + 1, forward.batches()));
  }
  line.clear();
  file.commit();
  std::printf("logits [%zu, %zu, %zu] written to %s\n", tokens.sequences, tokens.length, loaded.vocabulary(), output.c_str());
}

}  // namespace programs

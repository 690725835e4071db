#include <cstdio>
#include <klens/io/safetensors.hpp>
#include <span>
#include <vector>

#include "commands.hpp"
#include "engine/model.hpp"
#include "hybrid_forward.hpp"
#include "load_model.hpp"
#include "model_limits.hpp"
#include "model_sampler.hpp"
#include "terminal.hpp"

namespace programs {

void logits(const run_arguments& arguments, const std::filesystem::path& output) {
  klens::atomic_file file{output};
  const model loaded = load_model(arguments);
  const token_set tokens = tokens_for(sampler_of(loaded, arguments.threads), arguments.tokens, 0);
  remark_on_length(arguments.model, tokens);
  const hybrid_forward forward{loaded, tokens, arguments.sequences_per_batch(), arguments.threads};

  std::vector<klens::stored_tensor> announced{{"logits", "F32", {tokens.sequences, tokens.length, loaded.vocabulary()}, {}}};
  if (!tokens.roles.empty()) announced.push_back({"counted", "BOOL", {tokens.sequences, tokens.length}, {}});
  file.write(klens::safetensors_header(announced));
  progress_line line;
  for (std::size_t batch = 0; batch < forward.batches(); ++batch) {  // never more than a batch in memory
    const klens::matrix<float> values = forward.logits(forward.end(batch));
    file.write(std::as_bytes(std::span(values.data(), static_cast<std::size_t>(values.size()))));
    line.show(text("batch %zu/%zu", batch + 1, forward.batches()));
  }
  line.clear();
  std::vector<std::byte> counted;  // which rows mean something: those of padding do not
  for (const bool each : tokens.counted()) counted.push_back(std::byte{each});
  file.write(counted);
  file.commit();
  std::printf("logits [%zu, %zu, %zu] written to %s\n", tokens.sequences, tokens.length, loaded.vocabulary(), output.c_str());
  if (!tokens.roles.empty())
    std::printf("%zu of %zu positions count; they are in the tensor 'counted'\n", tokens.positions(), tokens.tokens.size());
}

}  // namespace programs

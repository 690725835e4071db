#include "rank_command.hpp"

#include <ggml.h>

#include <algorithm>
#include <klens/rank/rank_layers.hpp>
#include <string>
#include <vector>

#include "engine.hpp"
#include "ggml_format.hpp"
#include "gguf_file.hpp"
#include "gguf_model.hpp"
#include "llama_tokens.hpp"
#include "scan_request.hpp"

namespace llama_adapter {
namespace {

// What a reader must know of a model that is no original.
std::vector<std::string> remarks_of(const gguf_file& file, const std::vector<klens::layer>& layers) {
  const auto quantized =
      std::ranges::count_if(layers, [&](const klens::layer& each) { return ggml_is_quantized(file.at(each.name).type); });
  if (quantized == 0) return {};
  return {std::to_string(quantized) + " of the ranked matrices are quantized in " + file.path().filename().string() +
          " already: damage counts from there, not from the original model"};
}

}  // namespace

bool rank(const hybrid::rank_arguments& arguments, const llama_arguments& of_llama) {
  const hybrid::scan_request request{arguments, parse_types(arguments.schemes)};
  start_engine();
  const gguf_file file{arguments.run.model};
  gguf_model model{file, arithmetic::floats, {arguments.run.threads, of_llama.gpu_layers}};
  hybrid::scan_subject subject{file.path().filename().string() + " in llama.cpp",
                               {file.path()},
                               request.chosen(model.layers()),
                               read_tokens(arguments.run.tokens, of_llama, model)};
  const auto forward = [&](std::size_t batch) {
    return model.logits(subject.tokens.batch(batch, request.sequences_per_batch()), subject.tokens.length);
  };
  const auto measure = [&](const auto& schemes, const auto& metrics, const auto& options) {
    klens::scores scores = klens::rank_layers(subject.layers, forward, schemes, metrics, options);
    scores.remarks = remarks_of(file, subject.layers);
    return scores;
  };
  const klens::scores scores = request.run(subject, subject.tokens, measure, {.checkpoint = arguments.checkpoint});
  request.report(subject, scores);
  return scores.complete;
}

}  // namespace llama_adapter

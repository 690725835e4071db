#include "rank_command.hpp"

#include <ggml.h>

#include <algorithm>
#include <klens/error.hpp>
#include <klens/rank/rank_layers.hpp>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine.hpp"
#include "ggml_format.hpp"
#include "gguf_file.hpp"
#include "gguf_model.hpp"
#include "kl_base.hpp"
#include "llama_tokens.hpp"
#include "scan_request.hpp"

namespace llama_adapter {
namespace {

// What a reader must know of a model that is no original, and of types that stand for another one.
std::vector<std::string> remarks_of(const gguf_file& file, const std::vector<klens::layer>& layers,
                                    const std::vector<std::string>& types) {
  std::vector<std::string> remarks;
  const auto tensors = [](std::ptrdiff_t count) { return std::to_string(count) + (count == 1 ? " tensor" : " tensors"); };
  for (const std::string& each : types) {
    const ggml_format format{each};
    std::map<ggml_type, std::ptrdiff_t> others;
    for (const klens::layer& layer : layers)
      if (format.stored_type(layer.columns()) != format.type()) ++others[format.stored_type(layer.columns())];
    for (const auto& [type, count] : others)
      remarks.push_back(each + " is " + ggml_format::name_of(type) + " in " + tensors(count) +
                        " whose rows its blocks do not divide, as llama-quantize stores them");
  }
  const auto quantized =
      std::ranges::count_if(layers, [&](const klens::layer& each) { return ggml_is_quantized(file.at(each.name).type); });
  if (quantized > 0)
    remarks.push_back(tensors(quantized) + " of those ranked are quantized in " + file.path().filename().string() +
                      " already: damage counts from there, not from the original model");
  return remarks;
}

constexpr const char* base_remark =
    "the reference is a base file: its 16 bits, and what its engine rounds otherwise, are in every score; small ones mean "
    "nothing";

// What a scan runs on: the file's own logits, at the positions of the base file where there is one.
class rank_forward {
 public:
  rank_forward(gguf_model& model, programs::token_set tokens, std::size_t per_batch)
      : model_{model}, tokens_{std::move(tokens)}, scored_{tokens_}, per_batch_{per_batch} {}
  rank_forward(gguf_model& model, kl_base& base, std::size_t per_batch) : model_{model}, per_batch_{per_batch}, base_{&base} {
    if (base.vocabulary() != model.vocabulary())
      throw klens::argument_error{"the base file has a vocabulary of " + std::to_string(base.vocabulary()) + ", the model of " +
                                  std::to_string(model.vocabulary())};
    tokens_ = base.tokens();
    scored_ = {{}, tokens_.sequences, base.rows().count};
    for (std::size_t s = 0; s < tokens_.sequences; ++s) {
      const auto rows = tokens_.batch(s, 1).subspan(base.rows().first, base.rows().count);
      scored_.tokens.insert(scored_.tokens.end(), rows.begin(), rows.end());
      if (const auto beginning = model.beginning()) tokens_.tokens[s * tokens_.length] = *beginning;
    }
  }

  /// The tokens at the positions that are compared.
  [[nodiscard]] const programs::token_set& scored() const noexcept { return scored_; }

  /// The base file's logits of a batch.
  [[nodiscard]] klens::matrix<float> reference(std::size_t batch) const {
    return base_->logits(batch * per_batch_, tokens_.batch(batch, per_batch_).size() / tokens_.length);
  }

  [[nodiscard]] klens::matrix<float> operator()(std::size_t batch) {
    const auto some = tokens_.batch(batch, per_batch_);
    const std::size_t sequences = some.size() / tokens_.length;
    klens::matrix<float> all = model_.logits(some, tokens_.length);
    if (!base_) return all;
    const auto count = static_cast<Eigen::Index>(base_->rows().count);
    klens::matrix<float> rows(count * static_cast<Eigen::Index>(sequences), all.cols());
    for (std::size_t s = 0; s < sequences; ++s)
      rows.middleRows(static_cast<Eigen::Index>(s) * count, count) =
          all.middleRows(static_cast<Eigen::Index>(s * tokens_.length + base_->rows().first), count);
    return rows;
  }

 private:
  gguf_model& model_;
  programs::token_set tokens_, scored_;
  std::size_t per_batch_;
  kl_base* base_ = nullptr;
};

}  // namespace

bool rank(const programs::rank_arguments& arguments, const llama_arguments& of_llama) {
  programs::rank_arguments named = arguments;  // as the scores say where their tokens came from
  if (!of_llama.text.empty()) named.run.tokens.file = of_llama.text;
  if (!of_llama.base.empty()) named.run.tokens.file = of_llama.base;
  const programs::scan_request request{named, parse_types(arguments.schemes)};
  const bool has_base = !of_llama.base.empty();
  if (has_base && (!arguments.run.tokens.file.empty() || !of_llama.text.empty()))
    throw klens::argument_error{"--kl-divergence-base: brings its tokens along; leave --tokens and --file away"};
  if (has_base && (arguments.from == "quantized" || !arguments.checkpoint.empty()))
    throw klens::argument_error{"--kl-divergence-base: not together with --from quantized and --checkpoint"};
  std::optional<kl_base> base;
  if (has_base) base.emplace(of_llama.base);
  start_engine();
  const gguf_file file{arguments.run.model};
  gguf_model model{file, arithmetic::floats, {arguments.run.threads, of_llama.gpu_layers}};
  const std::size_t per_batch = request.sequences_per_batch();
  rank_forward forward = base ? rank_forward{model, *base, per_batch}
                              : rank_forward{model, read_tokens(arguments.run.tokens, of_llama, model), per_batch};
  programs::scan_subject subject{
      file.path().filename().string() + " in llama.cpp", {file.path()}, request.chosen(model.layers()), forward.scored()};
  const auto measure = [&](const auto& schemes, const auto& metrics, klens::rank_options options) {
    if (base) options.reference = [&forward](std::size_t batch) { return forward.reference(batch); };
    klens::scores scores = klens::rank_layers(subject.layers, forward, schemes, metrics, options);
    for (std::string& remark : remarks_of(file, subject.layers, scores.schemes())) scores.remarks.push_back(std::move(remark));
    if (base) scores.remarks.emplace_back(base_remark);
    return scores;
  };
  return request.rank(subject, measure, {.checkpoint = arguments.checkpoint});
}

}  // namespace llama_adapter

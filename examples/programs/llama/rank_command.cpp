#include "rank_command.hpp"

#include <ggml.h>

#include <algorithm>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <klens/rank/rank_layers.hpp>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine.hpp"
#include "format_packer.hpp"
#include "ggml_format.hpp"
#include "gguf_file.hpp"
#include "gguf_model.hpp"
#include "importance.hpp"
#include "kl_base.hpp"
#include "llama_tokens.hpp"
#include "scan_request.hpp"
#include "score_table.hpp"
#include "staged_forward.hpp"
#include "staged_model.hpp"

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

// Takes out the tensors that a type cannot be made of, and says which: a type that needs importance, and a tensor without.
std::vector<std::string> leave_out_without_data(std::vector<klens::layer>& layers, const importance_matrix& importance,
                                                const std::vector<klens::scheme>& types) {
  const auto needs =
      std::ranges::find_if(types, [](const klens::scheme& each) { return ggml_format{each.name()}.needs_importance(); });
  if (needs == types.end()) return {};
  std::vector<std::string> left_out;
  std::erase_if(layers, [&](const klens::layer& each) {
    if (!importance.of(each.name).empty()) return false;
    left_out.push_back(each.name + ": " + importance.path().filename().string() + " has no data for it, which " +
                       needs->name() + " needs");
    return true;
  });
  if (layers.empty()) throw klens::argument_error{"--imatrix: has no data for any tensor, and " + needs->name() + " needs it"};
  return left_out;
}

// Those that are quantized without importance although there is a matrix.
std::vector<std::string> tensors_without(const importance_matrix& importance, const std::vector<klens::layer>& layers) {
  std::vector<std::string> names;
  for (const klens::layer& each : layers)
    if (importance.of(each.name).empty()) names.push_back(each.name);
  return names;
}

std::string joined(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& each : names) all += (all.empty() ? "" : ", ") + each;
  return all;
}

constexpr const char* base_remark =
    "the reference is a base file: its 16 bits, and what its engine rounds otherwise, are in every score; small ones mean "
    "nothing";

// What a scan runs on, and at which positions of each sequence it compares.
struct rank_input {
  programs::token_set tokens;
  programs::token_set scored;  // at the positions that are compared
  position_range compared;
};

rank_input input_of(programs::token_set tokens) { return {tokens, tokens, {0, tokens.length}}; }

// Throws klens::argument_error for the base file of a model with another vocabulary.
rank_input input_of(const kl_base& base, const gguf_model& model) {
  if (base.vocabulary() != model.vocabulary())
    throw klens::argument_error{"the base file has a vocabulary of " + std::to_string(base.vocabulary()) + ", the model of " +
                                std::to_string(model.vocabulary())};
  const position_range compared{base.rows().first, base.rows().count};
  rank_input input{base.tokens(), {{}, base.tokens().sequences, compared.count}, compared};
  for (std::size_t s = 0; s < input.tokens.sequences; ++s) {
    const auto rows = input.tokens.batch(s, 1).subspan(compared.first, compared.count);
    input.scored.tokens.insert(input.scored.tokens.end(), rows.begin(), rows.end());
    if (const auto beginning = model.beginning()) input.tokens.tokens[s * input.tokens.length] = *beginning;
  }
  return input;
}

// The whole model for every candidate, where its graph cannot be cut.
class whole_forward {
 public:
  whole_forward(gguf_model& model, const rank_input& input, std::size_t per_batch)
      : model_{model}, input_{input}, per_batch_{per_batch} {}

  [[nodiscard]] klens::matrix<float> operator()(std::size_t batch) {
    const auto some = input_.tokens.batch(batch, per_batch_);
    const std::size_t length = input_.tokens.length, sequences = some.size() / length;
    klens::matrix<float> all = model_.logits(some, length);
    if (input_.compared.count == length) return all;
    const auto count = static_cast<Eigen::Index>(input_.compared.count);
    klens::matrix<float> rows(count * static_cast<Eigen::Index>(sequences), all.cols());
    for (std::size_t s = 0; s < sequences; ++s)
      rows.middleRows(static_cast<Eigen::Index>(s) * count, count) =
          all.middleRows(static_cast<Eigen::Index>(s * length + input_.compared.first), count);
    return rows;
  }

 private:
  gguf_model& model_;
  const rank_input& input_;
  std::size_t per_batch_;
};

}  // namespace

bool rank(const programs::rank_arguments& arguments, const llama_arguments& of_llama) {
  programs::rank_arguments named = arguments;  // as the scores say where their tokens came from
  if (!of_llama.text.empty()) named.run.tokens.file = of_llama.text;
  if (!of_llama.base.empty()) named.run.tokens.file = of_llama.base;
  const std::vector<klens::scheme> types = parse_types(arguments.schemes, !of_llama.imatrix.empty());
  const programs::scan_request request{named, types};
  if (!of_llama.table.empty()) klens::atomic_file{of_llama.table};
  const bool has_base = !of_llama.base.empty();
  if (has_base && (!arguments.run.tokens.file.empty() || !of_llama.text.empty()))
    throw klens::argument_error{"--kl-divergence-base: brings its tokens along; leave --tokens and --file away"};
  if (has_base && (arguments.from == "quantized" || !arguments.checkpoint.empty() || request.predicts()))
    throw klens::argument_error{
        "--kl-divergence-base: not together with --from quantized, --checkpoint and --method local or refine"};
  std::optional<kl_base> base;
  if (has_base) base.emplace(of_llama.base);
  start_engine();
  const gguf_file file{arguments.run.model};
  const run_settings settings{arguments.run.threads, of_llama.gpu_layers};
  std::optional<importance_matrix> importance;
  if (!of_llama.imatrix.empty()) {
    importance.emplace(of_llama.imatrix, file);
    named.schemes += " by " + importance->name();  // a checkpoint without it is another scan's
  }
  std::optional<gguf_model> model{std::in_place, file, arithmetic::stored, settings};
  const rank_input input =
      base ? input_of(*base, *model) : input_of(request.as_scanned(tokens_for(arguments.run, of_llama, *model)));
  std::optional<staged_model> staged;
  std::vector<std::string> on_stages;
  std::vector<klens::layer> layers;
  try {
    staged.emplace(*model, format_packer::with(importance ? &*importance : nullptr), settings, input.tokens.batch(0, 1));
    if (request.predicts() && staged->stages() < 2)
      throw uncut_error{"no block of it does alone what it does in the whole model"};
    layers = staged->layers();
    on_stages = staged->remarks();
  } catch (const uncut_error& caught) {
    staged.reset();
    if (importance) throw klens::error{std::string{"--imatrix: this model cannot be run in stages: "} + caught.what()};
    model.reset();
    model.emplace(file, arithmetic::floats, settings);
    layers = model->layers();
    on_stages.push_back(caught.what() +
                        std::string{"; every candidate runs the whole model, and all of it lies in memory as float32"});
  }
  std::vector<std::string> left_out;
  if (importance) {
    on_stages.push_back(remark_on(*importance));
    left_out = leave_out_without_data(layers, *importance, types);
    if (const std::string without = joined(tensors_without(*importance, layers)); !without.empty())
      on_stages.push_back("without data in the importance matrix, and quantized without one: " + without);
  }
  programs::scan_subject subject{
      file.path().filename().string() + " in llama.cpp", {file.path()}, request.chosen(layers), input.scored};
  const std::size_t per_batch = request.sequences_per_batch();
  const auto measure = [&](const auto& schemes, const auto& metrics, klens::rank_options options) {
    if (base)
      options.reference = [&](std::size_t batch) {
        return base->logits(batch * per_batch, input.tokens.batch(batch, per_batch).size() / input.tokens.length);
      };
    klens::scores scores;
    if (staged) {
      scores = klens::rank_layers(subject.layers, staged_forward{*staged, input.tokens, per_batch, input.compared}, schemes,
                                  metrics, options);
    } else {
      options.method = klens::scan_method::exact;
      scores = klens::rank_layers(subject.layers, whole_forward{*model, input, per_batch}, schemes, metrics, options);
    }
    for (std::string& remark : remarks_of(file, subject.layers, scores.schemes())) scores.remarks.push_back(std::move(remark));
    scores.remarks.insert(scores.remarks.end(), on_stages.begin(), on_stages.end());
    scores.skipped.insert(scores.skipped.end(), left_out.begin(), left_out.end());
    if (base) scores.remarks.emplace_back(base_remark);
    if (!of_llama.table.empty() && options.from == klens::direction::from_reference)
      klens::write_file(of_llama.table, score_table_text(scores));
    return scores;
  };
  return request.rank(subject, measure, {.checkpoint = arguments.checkpoint, .noise_floor = staged && !base});
}

}  // namespace llama_adapter

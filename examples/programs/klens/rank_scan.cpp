#include "rank_scan.hpp"

#include <algorithm>
#include <iterator>
#include <klens/error.hpp>
#include <klens/io/inputs_file.hpp>
#include <klens/rank/gather_inputs.hpp>
#include <klens/rank/rank_layers.hpp>
#include <klens/site.hpp>
#include <map>
#include <string>
#include <vector>

#include "fingerprint.hpp"
#include "hybrid_forward.hpp"
#include "image_forward.hpp"
#include "load_model.hpp"
#include "model_limits.hpp"
#include "model_sampler.hpp"
#include "site_schemes.hpp"
#include "terminal.hpp"

namespace programs {
namespace {

std::vector<klens::layer> layers_of(model& of, const rank_arguments& arguments) {
  std::vector<weight> all = of.weights(arguments.split_fused);
  if (arguments.include_small) std::ranges::move(of.small_weights(), std::back_inserter(all));
  std::vector<klens::layer> layers;
  for (const weight& each : all) {
    layers.push_back(each.as_layer());
    if (each.tied) layers.back().note = "tied to the embedding: the perturbation reaches both uses";
  }
  return layers;
}

image_set images_for(const rank_arguments& arguments) {
  if (arguments.method != "exact")
    throw klens::argument_error{
        "--method " + arguments.method +
        ": an image is many rows of the hidden matrix and one of logits, and local damage is known for one "
        "row a position only; use --method exact"};
  if (arguments.positions != 0) throw klens::argument_error{"--positions: an image has one; use --sequences"};
  if (arguments.sort == "delta_ce") throw klens::argument_error{"--sort delta_ce: images have no next token; use --sort kl"};
  return read_images(arguments.run.tokens);
}

}  // namespace

rank_scan::rank_scan(const rank_arguments& arguments, bool images)
    : request_{arguments},
      threads_{arguments.run.threads},
      statistics_{arguments.run.statistics},
      model_{images ? load_model(arguments.run.model, arguments.run.strict) : load_model(arguments.run)},
      images_{model_.reads_images() ? images_for(arguments) : image_set{}},
      subject_{model_.type(),
               files_of_folder(arguments.run.model),
               {},
               model_.reads_images() ? images_.as_sequences() : request_.tokens_for(sampler_of(model_, threads_))} {
  if (!model_.reads_images()) remark_on_length(arguments.run.model, subject_.tokens);
  const std::size_t length = arguments.run.tokens.length.value_or(subject_.tokens.length);
  subject_.layers = layers_for(arguments, request_.predicts() ? length : subject_.tokens.length);
}

std::vector<klens::layer> rank_scan::layers_for(const rank_arguments& arguments, std::size_t sequence_length) {
  const std::vector<klens::site_kind> kinds = klens::parse_site_kinds(arguments.sites);
  const bool weights_alone = kinds == std::vector{klens::site_kind::weights};
  const auto expect = [&](bool given, const char* option, klens::site_kind of) {
    if (given && std::ranges::find(kinds, of) == kinds.end())
      throw klens::argument_error{std::string{option} + ": is of sites of the kind " + std::string{klens::name_of(of)} +
                                  "; ask for them with --sites"};
  };
  if (weights_alone && arguments.context != 0)
    throw klens::argument_error{"--context: is of what the model keeps while it runs; ask for it with --sites"};
  expect(arguments.error_feedback, "--error-feedback", klens::site_kind::state);
  expect(arguments.layout.kv_by_channel != 0, "--kv-by-channel", klens::site_kind::kv);
  expect(arguments.layout.activations_per_tensor, "--activations-per-tensor", klens::site_kind::activations);
  if (weights_alone) return request_.chosen(layers_of(model_, arguments));
  if (model_.reads_images())
    throw klens::argument_error{"--sites " + arguments.sites +
                                ": a model of images keeps nothing from one image to the next; only "
                                "weights can be ranked"};
  if (arguments.context > sequence_length)
    throw klens::argument_error{
        text("--context %zu: the sequences have %zu tokens, and what storage does to later positions is not "
             "measured; use --length %zu",
             arguments.context, sequence_length, arguments.context)};
  hybrid_forward forward{model_, subject_.tokens, 1, 1};
  subject_.context = arguments.context ? arguments.context : sequence_length;
  forward.count_sites_as({.context = subject_.context,
                          .error_feedback = arguments.error_feedback,
                          .kv_by_channel = arguments.layout.kv_by_channel,
                          .activations_per_tensor = arguments.layout.activations_per_tensor});
  std::vector<klens::layer> all;
  if (std::ranges::find(kinds, klens::site_kind::weights) != kinds.end()) all = layers_of(model_, arguments);
  std::vector<klens::site_kind> at_run_time;
  std::ranges::copy_if(kinds, std::back_inserter(at_run_time), [](auto kind) { return kind != klens::site_kind::weights; });
  std::ranges::move(klens::sites_of(forward, at_run_time), std::back_inserter(all));
  all = request_.chosen(all);
  assign_schemes(scan_request::schemes_of(arguments), all);
  return all;
}

klens::scores rank_scan::run(const token_set& part, const std::filesystem::path& checkpoint, bool noise_floor,
                             const std::string& phase) {
  return request_.run(subject_, part, measurement_on(part), {checkpoint, noise_floor, phase});
}

bool rank_scan::rank(const std::filesystem::path& checkpoint) {
  return request_.rank(subject_, measurement_on(subject_.tokens), {checkpoint, true});
}

template <class Forward>
void rank_scan::know_inputs(Forward& forward, const std::vector<klens::scheme>& schemes, std::size_t batches) {
  const klens::input_need needs = klens::detail::most_needed(schemes);
  const std::filesystem::path& file = statistics_;
  if (needs == klens::input_need::nothing) {
    if (!file.empty()) throw klens::argument_error{"--statistics: none of the schemes looks at the inputs of layers"};
    return;
  }
  if (std::ranges::all_of(subject_.layers, [&](const klens::layer& each) { return each.inputs != nullptr; })) return;
  const std::map<std::string, std::string> identity{{"model", fingerprint_of_files(subject_.files)}};
  if (!file.empty() && std::filesystem::exists(file)) return klens::read_inputs(file, subject_.layers, needs, identity);
  klens::gather_inputs(subject_.layers, forward, batches, needs);
  if (!file.empty()) klens::write_inputs(file, subject_.layers, identity);
}

scan_request::measurement rank_scan::measurement_on(const token_set& part) {
  return [this, &part](const auto& schemes, const auto& metrics, const auto& options) {
    if (model_.reads_images()) {
      image_forward forward{model_, images_, request_.sequences_per_batch(), threads_};
      know_inputs(forward, schemes, options.batches);
      std::vector<klens::any_metric> of_images;  // which have no next token
      std::ranges::copy_if(metrics, std::back_inserter(of_images), [](const auto& each) { return each.name != "delta_ce"; });
      return klens::rank_layers(subject_.layers, forward, schemes, of_images, options);
    }
    hybrid_forward forward{model_, part, request_.sequences_per_batch(), threads_};
    know_inputs(forward, schemes, options.batches);
    return klens::rank_layers(subject_.layers, forward, schemes, metrics, options);
  };
}

}  // namespace programs

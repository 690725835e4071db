// What a model can store in fewer bits while it runs: model::kept and model::sites.

#include <algorithm>
#include <klens/error.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/site.hpp>
#include <string>
#include <utility>

#include "model.hpp"

namespace programs {
namespace {

// The inputs of a weight's products: a vector a token, or one of all tokens.
klens::layer inputs_of(const weight& of, bool per_tensor) {
  constexpr std::string_view suffix = ".weight";
  std::string name = of.name;
  if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
  const klens::site_storage storage{[p = of.of, per_tensor](const klens::scheme& as) {
                                      p->stores_inputs = input_storage{as, per_tensor};
                                    },
                                    [p = of.of] { p->stores_inputs.reset(); }};
  klens::layer site =
      klens::run_time_site(name + ".inputs", klens::site_kind::activations, 1, static_cast<std::size_t>(of.columns), storage);
  site.kind = of.kind + ".inputs";
  site.stage = of.tied ? of.last_stage : of.stage;  // the embedding, which gathers rows, has no inputs
  site.last_stage = of.last_stage;
  if (per_tensor) site.note = per_tensor_note;
  return site;
}

// Of keys and values that are stored channel by channel: as many vectors as there are groups of positions, the last a full one.
void lay_out_by_channel(placed_vectors& of, std::size_t group) {
  if (of.read_with != nullptr)
    throw klens::argument_error{of.name + ": layers that share keys and values store them position by position only"};
  of.vectors *= of.columns;
  of.columns = group;
}

// How many vectors are kept of a sequence of so many positions.
std::size_t vectors_of(const placed_vectors& of, std::size_t positions, std::size_t by_channel) {
  if (of.kind != klens::site_kind::kv) return of.vectors;
  const std::size_t kept = of.positions == 0 ? positions : std::min(of.positions, positions);
  return of.vectors * (by_channel == 0 ? kept : (kept + by_channel - 1) / by_channel);
}

klens::layer site_of(placed_vectors of, const site_options& options, std::size_t positions, roundings& all) {
  const bool feedback = options.error_feedback && of.kind == klens::site_kind::state;
  const std::size_t by_channel = of.kind == klens::site_kind::kv ? options.kv_by_channel : 0;
  if (by_channel > 0) lay_out_by_channel(of, by_channel);
  const klens::site_storage storage{[&all, of, feedback, by_channel](const klens::scheme& as) {
                                      all.set(of.part, of.number, {as, of.columns, feedback, by_channel});
                                    },
                                    [&all, of] { all.clear(of.part, of.number); }};
  klens::layer site =
      klens::run_time_site(of.name, of.kind, options.sequences * vectors_of(of, positions, by_channel), of.columns, storage);
  site.stage = of.stage;
  site.last_stage = of.last_stage;
  if (feedback) site.note = feedback_note;
  if (by_channel > 0) site.note = by_channel_note(by_channel);
  return site;
}

}  // namespace

std::string by_channel_note(std::size_t positions) {
  return "a scale for each channel and " + std::to_string(positions) +
         " positions; those of a group that is not full are floats";
}

std::vector<placed_vectors> model::kept() const {
  std::vector<placed_vectors> all;
  for (std::size_t step = 0; step < parts_.steps.size(); ++step)
    for (const branch& each : parts_.steps[step].branches)
      for (kept_vectors& of : each.of->kept()) {
        const std::size_t last = of.read_with ? last_stage_of(*of.read_with) : 0;
        all.push_back({std::move(of), step + 1, std::max(last, step + 1)});
      }
  return all;
}

std::vector<klens::layer> model::sites(std::span<const klens::site_kind> kinds, const site_options& options) const {
  const auto wanted = [&](klens::site_kind kind) { return std::ranges::find(kinds, kind) != kinds.end(); };
  std::vector<klens::layer> all;
  if (reads_images()) return all;
  for (const auto& each : parameters_)
    if (wanted(klens::site_kind::activations) && each->multiplies &&
        (each.get() != parts_.embedding || parts_.head == parts_.embedding))
      all.push_back(inputs_of(view(*each), options.activations_per_tensor));
  const std::size_t positions = options.context + static_cast<std::size_t>(parts_.memory ? parts_.memory->rows() : 0);
  for (const placed_vectors& each : kept())
    if (wanted(each.kind)) all.push_back(site_of(each, options, positions, *rounded_));
  std::ranges::stable_sort(all, {}, &klens::layer::stage);
  return all;
}

}  // namespace programs

// What a model can store in fewer bits while it runs: model::kept and model::sites.

#include <algorithm>
#include <klens/quant/scheme.hpp>
#include <klens/site.hpp>
#include <utility>

#include "model.hpp"

namespace programs {
namespace {

// The inputs of a weight's products: a vector a token.
klens::layer inputs_of(const weight& of) {
  constexpr std::string_view suffix = ".weight";
  std::string name = of.name;
  if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
  const klens::site_storage storage{
      [p = of.of](const klens::scheme& as) { p->stores_inputs = [as](std::span<float> row) { as.round_trip(row, row); }; },
      [p = of.of] { p->stores_inputs = nullptr; }};
  klens::layer site =
      klens::run_time_site(name + ".inputs", klens::site_kind::activations, 1, static_cast<std::size_t>(of.columns), storage);
  site.kind = of.kind + ".inputs";
  site.stage = of.tied ? of.last_stage : of.stage;  // the embedding, which gathers rows, has no inputs
  site.last_stage = of.last_stage;
  return site;
}

// How many vectors are kept of a sequence of so many positions.
std::size_t vectors_of(const placed_vectors& of, std::size_t positions) {
  if (of.kind != klens::site_kind::kv) return of.vectors;
  return of.vectors * (of.positions == 0 ? positions : std::min(of.positions, positions));
}

klens::layer site_of(const placed_vectors& of, std::size_t vectors, bool feedback, roundings& all) {
  const klens::site_storage storage{[&all, of, feedback](const klens::scheme& as) {
                                      all.set(of.part, of.number, {as, of.columns, feedback});
                                    },
                                    [&all, of] { all.clear(of.part, of.number); }};
  klens::layer site = klens::run_time_site(of.name, of.kind, vectors, of.columns, storage);
  site.stage = of.stage;
  site.last_stage = of.last_stage;
  if (feedback) site.note = feedback_note;
  return site;
}

}  // namespace

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
      all.push_back(inputs_of(view(*each)));
  const std::size_t positions = options.context + static_cast<std::size_t>(parts_.memory ? parts_.memory->rows() : 0);
  for (const placed_vectors& each : kept())
    if (wanted(each.kind))
      all.push_back(site_of(each, options.sequences * vectors_of(each, positions),
                            options.error_feedback && each.kind == klens::site_kind::state, *rounded_));
  std::ranges::stable_sort(all, {}, &klens::layer::stage);
  return all;
}

}  // namespace programs

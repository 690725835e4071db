#include "model.hpp"

#include <algorithm>
#include <charconv>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/parallel_for.hpp>
#include <map>
#include <numeric>
#include "engine/elementwise.hpp"

#include "checkpoint.hpp"
#include "config.hpp"
#include "linear.hpp"
#include "model_types.hpp"

namespace programs {
namespace {

/// The number in "model.layers.7.mamba.D"; -1 where there is none.
int block_of(std::string_view name) {
  constexpr std::string_view mark = "layers.";
  const std::size_t at = name.find(mark);
  int number = -1;
  if (at != std::string_view::npos) std::from_chars(name.data() + at + mark.size(), name.data() + name.size(), number);
  return number;
}

/// What a parameter does, read off its name; numbers within lists say nothing ("x_proj.0.weight" is an "x_proj").
std::string kind_of_parameter(std::string name) {
  constexpr std::string_view suffix = ".weight";
  if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
  const auto is_number = [](std::string_view part) {
    return !part.empty() && part.find_first_not_of("0123456789") == part.npos;
  };
  for (std::size_t dot = name.rfind('.'); dot != name.npos && is_number(std::string_view(name).substr(dot + 1));
       dot = name.rfind('.'))
    name.resize(dot);
  return klens::kind_of(name);
}

std::string joined(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& each : all) text += (text.empty() ? "" : ", ") + each;
  return text;
}

}  // namespace

model model::load(const std::filesystem::path& folder, load_options options) {
  if (!std::filesystem::is_directory(folder))
    throw klens::file_error(folder.string() + ": is no folder; name one with config.json and model.safetensors");
  const described_model described = described_in(config(folder / "config.json"));
  checkpoint tensors(folder);
  if (described.inner) tensors.choose_text_model();
  model loaded;
  loaded.parts_ = described.build(described.fields, tensors);
  const std::optional<std::int64_t> begin = described.fields.whole_number("bos_token_id");
  if (begin && *begin >= 0 && static_cast<std::uint64_t>(*begin) < loaded.vocabulary())
    loaded.begin_token_ = static_cast<std::int32_t>(*begin);
  described.fields.settle_rest();
  loaded.type_ = described.fields.text("model_type", "");
  loaded.parameters_ = tensors.finish();
  const std::vector<std::string>& unknown = described.fields.unknown();
  if (options.strict && !unknown.empty())
    described.fields.refuse(unknown.front(),
                            "is unknown to klens; take it out if it changes no result, or load without --strict");
  std::vector<std::string> left_out = described.siblings;
  for (const std::string& each : tensors.left_out()) left_out.push_back(each);
  if (!unknown.empty()) {
    std::vector<std::string> quoted;
    for (const std::string& each : unknown) quoted.push_back(klens::detail::name_text(each));
    loaded.remarks_.push_back("config.json has fields that klens does not know, and passes over: " + joined(quoted) +
                              " (--strict refuses them)");
  }
  if (!left_out.empty()) loaded.remarks_.push_back("beside the text model, and left out: " + joined(left_out));
  std::ranges::stable_sort(loaded.parameters_, {}, [&](const auto& each) { return loaded.stage_of(*each); });
  return loaded;
}

std::size_t model::vocabulary() const noexcept {
  return static_cast<std::size_t>(reads_images() ? parts_.images->head.out() : parts_.embedding->rows());
}
std::size_t model::width() const noexcept { return static_cast<std::size_t>(parts_.embedding->columns()); }

std::size_t model::stage_of(const parameter& of) const {
  if (&of == parts_.embedding || &of == parts_.memory) return 0;
  return of.stage == 0 ? stages() : of.stage;
}

std::size_t model::last_stage_of(const parameter& of) const {
  std::size_t last = &of == parts_.embedding && parts_.head == parts_.embedding ? stages() : stage_of(of);
  for (const auto& [each, step] : parts_.last_uses)
    if (each == &of) last = std::max(last, step);
  return last;
}

weight model::view(parameter& of) const {
  weight seen{.name = of.name,
              .rows = of.rows(),
              .columns = of.columns(),
              .kind = kind_of_parameter(of.name),
              .block = block_of(of.name),
              .stage = stage_of(of),
              .last_stage = last_stage_of(of),
              .tied = &of == parts_.head && parts_.head == parts_.embedding,
              .tensor = of.name,
              .of = &of};
  if (of.name.find(".experts.") != std::string::npos || of.stacked > 0) seen.kind = "expert_" + seen.kind;
  if (reads_images()) return seen;
  if (&of == parts_.head) {
    seen.name = "lm_head.weight";
    seen.kind = "lm_head";
  } else if (&of == parts_.embedding) {
    seen.kind = "embed_tokens";
  }
  return seen;
}

std::vector<weight> model::weights(bool split_fused) const {
  std::vector<weight> all;
  const auto some_rows = [](weight of, const std::string& name, std::size_t first, std::size_t rows, bool same_kind) {
    return weight{.name = of.name + "[" + name + "]",
                  .rows = static_cast<Eigen::Index>(rows),
                  .columns = of.columns,
                  .kind = same_kind ? of.kind : of.kind + "[" + name + "]",
                  .block = of.block,
                  .stage = of.stage,
                  .last_stage = of.last_stage,
                  .tensor = of.tensor,
                  .of = of.of,
                  .first = of.first + static_cast<Eigen::Index>(first)};
  };
  for (const auto& each : parameters_) {
    if (!each->multiplies) continue;
    const weight whole = view(*each);
    const std::size_t count = std::max<std::size_t>(each->stacked, 1);
    const std::size_t rows = static_cast<std::size_t>(whole.rows) / count;
    for (std::size_t i = 0; i < count; ++i) {
      const weight one = each->stacked == 0 ? whole : some_rows(whole, std::to_string(i), i * rows, rows, true);
      if (!split_fused || each->parts.empty()) all.push_back(one);
      if (!split_fused) continue;
      for (const row_range& part : each->parts) all.push_back(some_rows(one, part.name, part.first, part.rows, false));
    }
  }
  return all;
}

void model::show_inputs(const klens::input_observer& observer) const {
  std::map<const parameter*, std::vector<weight>> named;
  for (const bool split : {false, true})
    for (const weight& each : weights(split))
      if (!split || each.name.ends_with(']')) named[each.of].push_back(each);
  for (const auto& each : parameters_) {
    each->watcher = nullptr;
    if (!observer || !each->multiplies) continue;
    each->watcher = [observer, own = named[each.get()]](const parameter&, Eigen::Index first, Eigen::Index rows,
                                                        const klens::const_matrix_ref<float>& x) {
      for (const weight& reads : own)
        if (reads.first < first + rows && first < reads.first + reads.rows) observer(reads.name, x);
    };
  }
  if (!observer || reads_images() || parts_.head == parts_.embedding) return;
  const auto columns = static_cast<Eigen::Index>(width());
  for (const weight& each : named[parts_.embedding]) observer(each.name, klens::matrix<float>::Identity(columns, columns));
}

std::vector<weight> model::small_weights() {
  std::vector<weight> all;
  for (const auto& each : parameters_)
    if (!each->multiplies) all.push_back(view(*each));
  return all;
}

klens::layer weight::as_layer() const {
  const auto height = static_cast<std::size_t>(rows), width = static_cast<std::size_t>(columns);
  klens::layer made =
      of->multiplies
          ? klens::layer{name, height, width,
                         klens::lent_weights{[p = of, first = first](Eigen::Index row, klens::matrix_ref<float> into) {
                                               p->weights.read_own(first + row, into);
                                             },
                                             [p = of, first = first, rows = rows] { return p->weights.lend(first, rows); },
                                             [p = of, first = first, rows = rows] { p->weights.take_back(first, rows); }}}
          : klens::layer{name, of->values};
  made.kind = kind;
  made.stage = stage;
  made.last_stage = last_stage;
  return made;
}

state model::begin(std::span<const std::int32_t> tokens, std::size_t sequences, std::size_t length) const {
  if (reads_images()) throw klens::argument_error("this model classifies images, it reads no tokens");
  if (sequences == 0 || length == 0 || tokens.size() / length != sequences || tokens.size() % length != 0)
    throw klens::shape_error("begin: " + std::to_string(tokens.size()) + " tokens are not " + std::to_string(sequences) +
                             " sequences of " + std::to_string(length) + "; both must be at least 1");
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || static_cast<std::size_t>(tokens[i]) >= vocabulary())
      throw klens::argument_error("token " + std::to_string(tokens[i]) + " at " + std::to_string(i) +
                                  " is outside the vocabulary of " + std::to_string(vocabulary()) +
                                  "; use the tokenizer of this model");
  state at;
  at.sequences = sequences;
  at.length = length;
  at.tokens.assign(tokens.begin(), tokens.end());
  return at;
}

state model::go_on(state at, std::span<const std::int32_t> tokens) const {
  if (tokens.size() != at.sequences || at.before.size() != at.sequences)
    throw klens::shape_error("go_on: " + std::to_string(tokens.size()) + " tokens after " + std::to_string(at.sequences) +
                             " sequences, " + std::to_string(at.before.size()) + " of which keep what is behind them");
  state next = begin(tokens, at.sequences, 1);
  next.before = std::move(at.before);
  next.begun = true;
  return next;
}

state model::begin_images(const klens::const_matrix_ref<float>& images, image_grid each) const {
  constexpr Eigen::Index colors = 3;
  const auto places = static_cast<Eigen::Index>(each.places());
  if (!reads_images()) throw klens::argument_error("this model reads tokens, no images");
  if (places == 0 || images.rows() == 0 || images.cols() != colors * places)
    throw klens::shape_error("begin_images: " + klens::detail::shape_text(images.rows(), images.cols()) +
                             " values are not one row for each image of 3 colors x " + std::to_string(each.height) + " x " +
                             std::to_string(each.width));
  state at;
  at.sequences = static_cast<std::size_t>(images.rows());
  at.length = 1;
  at.image = each;
  at.hidden.resize(images.rows() * places, colors);
  for (Eigen::Index i = 0; i < images.rows(); ++i)
    for (Eigen::Index p = 0; p < places; ++p)
      for (Eigen::Index c = 0; c < colors; ++c) at.hidden(i * places + p, c) = images(i, c * places + p);
  return at;
}

void model::advance(state& at, std::size_t stage, std::size_t threads) const {
  if (reads_images()) return stage == 0 ? void() : advance_images(at, stage - 1, threads);
  if (stage == 0) return embed(at);
  const auto length = static_cast<Eigen::Index>(at.length);
  const Eigen::Index before = memory_rows(at), rows = before + length;
  const residual_step& step = parts_.steps.at(stage - 1);
  klens::parallel_for(threads, at.sequences, [&](std::size_t s) {
    const workspace_pool::lease work{*pool_};
    const workspace::frame frame{*work};
    const auto sequence = static_cast<Eigen::Index>(s);
    pass with{*work};
    if (!rounded_->empty()) with.rounded = rounded_.get();
    if (!at.before.empty()) with.before = &at.before[s];
    for (klens::matrix<float>& each : at.kept) with.kept.emplace_back(each.middleRows(sequence * rows, rows));
    auto own = at.hidden.middleRows(sequence * length, length);
    if (before == 0) return run(step, own, with);
    panel all = (*work).take(rows, own.cols());
    auto memory = at.memory.middleRows(sequence * before, before);
    all.topRows(before) = memory;
    all.bottomRows(length) = own;
    run(step, all, with);
    memory = all.topRows(before);
    own = all.bottomRows(length);
  });
}

void model::advance_images(state& at, std::size_t step, std::size_t threads) const {
  const image_grid grid = parts_.images->grid_at(step, at.image);
  const Eigen::Index rows = at.hidden.rows() / static_cast<Eigen::Index>(at.sequences);
  std::vector<klens::matrix<float>> images(at.sequences);
  klens::parallel_for(threads, at.sequences, [&](std::size_t i) {
    const workspace_pool::lease work{*pool_};
    const workspace::frame frame{*work};
    images[i] = at.hidden.middleRows(static_cast<Eigen::Index>(i) * rows, rows);
    parts_.images->steps[step]->run(images[i], grid, *work);
  });
  at.hidden.resize(static_cast<Eigen::Index>(at.sequences) * images.front().rows(), images.front().cols());
  for (std::size_t i = 0; i < images.size(); ++i)
    at.hidden.middleRows(static_cast<Eigen::Index>(i) * images[i].rows(), images[i].rows()) = images[i];
}

void model::embed(state& at) const {
  at.hidden.resize(static_cast<Eigen::Index>(at.tokens.size()), static_cast<Eigen::Index>(width()));
  for (Eigen::Index r = 0; r < at.hidden.rows(); ++r)
    parts_.embedding->weights.read(at.tokens[static_cast<std::size_t>(r)], at.hidden.middleRows(r, 1));
  if (parts_.embedding_scale != 1) at.hidden *= parts_.embedding_scale;
  const auto sequences = static_cast<Eigen::Index>(at.sequences), length = static_cast<Eigen::Index>(at.length);
  const Eigen::Index before = memory_rows(at);
  at.memory.resize(sequences * before, at.hidden.cols());
  for (Eigen::Index s = 0; s < sequences && before > 0; ++s) at.memory.middleRows(s * before, before) = parts_.memory->values;
  at.kept.clear();
  for (const std::size_t columns : parts_.kept)
    at.kept.push_back(klens::matrix<float>::Zero(sequences * (before + length), static_cast<Eigen::Index>(columns)));
  if (parts_.keeps_embedding) at.kept.front() = at.hidden;
}

void model::run(const residual_step& step, klens::matrix_ref<float> hidden, pass& at) {
  workspace& work = at.work;
  const workspace::frame frame{work};
  panel normed = work.take(hidden.rows(), hidden.cols()), scaled = work.take(hidden.rows(), hidden.cols());
  if (step.norm)
    step.norm(hidden, normed);
  else
    normed = hidden;
  panel sum = work.take(step.after ? hidden.rows() : 0, hidden.cols());
  if (step.after) sum.setZero();
  for (const branch& each : step.branches) {
    if (each.in_scale != 1)
      kernels::map_elements(
          all_of(scaled), [factor = each.in_scale](auto v) { return v * factor; }, all_of(normed));
    const panel& in = each.in_scale != 1 ? scaled : normed;
    if (step.after)
      each.of->add_to(sum, in, each.out_scale, at);
    else
      each.of->add_to(hidden, in, each.out_scale, at);
  }
  if (!step.after) return;
  step.after(sum, sum);
  hidden += sum;
}

klens::matrix<float> model::logits(const state& at, std::size_t threads) const {
  if (reads_images()) {
    std::vector<std::size_t> all(at.sequences);
    std::iota(all.begin(), all.end(), std::size_t{0});
    return logits(at, all, threads);
  }
  const auto length = static_cast<Eigen::Index>(at.length);
  klens::matrix<float> all(at.hidden.rows(), static_cast<Eigen::Index>(vocabulary()));
  klens::parallel_for(threads, at.sequences, [&](std::size_t s) {
    const workspace_pool::lease work{*pool_};
    const workspace::frame frame{*work};
    panel normed = (*work).take(length, at.hidden.cols());
    const Eigen::Index first = static_cast<Eigen::Index>(s) * length;
    parts_.final_norm(at.hidden.middleRows(first, length), normed);
    auto rows = all.middleRows(first, length);
    linear{parts_.head}(normed, rows);
    if (parts_.head_scale != 1) rows *= parts_.head_scale;
  });
  return all;
}

klens::matrix<float> model::logits(const state& at, std::span<const std::size_t> rows, std::size_t threads) const {
  if (reads_images()) {
    const image_grid grid = parts_.images->grid_at(parts_.images->steps.size(), at.image);
    const Eigen::Index places = at.hidden.rows() / static_cast<Eigen::Index>(at.sequences);
    klens::matrix<float> each(static_cast<Eigen::Index>(rows.size()), static_cast<Eigen::Index>(vocabulary()));
    klens::parallel_for(threads, rows.size(), [&](std::size_t i) {
      const workspace_pool::lease work{*pool_};
      klens::matrix<float> image = at.hidden.middleRows(static_cast<Eigen::Index>(rows[i]) * places, places);
      parts_.images->pool->run(image, grid, *work);
      parts_.images->head(image, each.middleRows(static_cast<Eigen::Index>(i), 1));
    });
    return each;
  }
  if (parts_.head->stores_inputs && parts_.head->stores_inputs->per_tensor) {  // whose scale all rows of a sequence decide
    const klens::matrix<float> all = logits(at, threads);
    klens::matrix<float> some(static_cast<Eigen::Index>(rows.size()), all.cols());
    for (std::size_t i = 0; i < rows.size(); ++i)
      some.row(static_cast<Eigen::Index>(i)) = all.row(static_cast<Eigen::Index>(rows[i]));
    return some;
  }
  constexpr std::size_t tile = 64;  // fixed, so that the number of threads changes nothing
  klens::matrix<float> all(static_cast<Eigen::Index>(rows.size()), static_cast<Eigen::Index>(vocabulary()));
  klens::parallel_for(threads, (rows.size() + tile - 1) / tile, [&](std::size_t i) {
    const workspace_pool::lease work{*pool_};
    const workspace::frame frame{*work};
    const std::span<const std::size_t> some = rows.subspan(i * tile, std::min(tile, rows.size() - i * tile));
    const auto count = static_cast<Eigen::Index>(some.size());
    panel normed = (*work).take(count, at.hidden.cols());
    for (Eigen::Index r = 0; r < count; ++r)
      parts_.final_norm.row(klens::row(at.hidden, static_cast<Eigen::Index>(some[static_cast<std::size_t>(r)])),
                            klens::row(normed, r));
    auto into = all.middleRows(static_cast<Eigen::Index>(i * tile), count);
    linear{parts_.head}(normed, into);
    if (parts_.head_scale != 1) into *= parts_.head_scale;
  });
  return all;
}

double model::flops(std::size_t stage, image_grid image) const {
  if (stage == 0) return 0;
  if (stage == stages()) return parts_.images->head.flops(1);
  return parts_.images->steps.at(stage - 1)->flops(parts_.images->grid_at(stage - 1, image));
}

double model::flops(std::size_t stage, std::size_t length) const {
  if (stage == 0) return 0;
  if (stage == stages())
    return 2.0 * static_cast<double>(length) * static_cast<double>(parts_.head->rows() * parts_.head->columns());
  double total = 0;
  for (const branch& each : parts_.steps.at(stage - 1).branches) total += each.of->flops(length);
  return total;
}

}  // namespace programs

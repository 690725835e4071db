#include <cmath>
#include <cstdio>
#include <functional>
#include <klens/io/json_text.hpp>
#include <nlohmann/json.hpp>

#include "profile_study.hpp"
#include "report/page.hpp"
#include "terminal.hpp"
#include "token_file.hpp"

namespace openvino_adapter {
namespace {

using programs::text;
using cells = std::vector<std::string>;

double megabytes(std::uint64_t bytes) { return static_cast<double>(bytes) / 1e6; }

cells heading_of(const profile_study& study) {
  cells heading{"model", "device", "MB", "load s", "first ms", "ms", "p90 ms", "tokens/s", "peak MB"};
  if (study.request.held_out) heading.push_back("kl");
  if (study.request.held_out && study.request.trained) heading.insert(heading.end(), {"ppl", "+-"});
  return heading;
}

cells row_of(const profile_study& study, const model_profile& of) {
  cells row{of.subject.name,
            of.device,
            text("%.2f", megabytes(of.bytes)),
            text("%.2f", of.start.load_seconds),
            text("%.1f", 1e3 * of.start.first_seconds),
            text("%.2f", 1e3 * of.seconds_at(0.5)),
            text("%.2f", 1e3 * of.seconds_at(0.9)),
            text("%.0f", study.tokens_per_second(of)),
            text("%.0f", megabytes(of.start.peak_bytes))};
  if (!of.quality) return row;
  row.push_back(text("%.4g", of.quality->kl.mean()));
  if (!study.request.trained) return row;
  const double error = of.quality->perplexity_error(*study.profiles.front().quality);
  row.push_back(text("%.3f", of.quality->perplexity()));
  row.push_back(std::isnan(error) ? "" : text("%.3f", error));
  return row;
}

// What the numbers are, line by line.
std::vector<std::string> notes_on(const profile_study& study) {
  const profile_request& request = study.request;
  std::vector<std::string> notes{
      text("One sequence of %zu tokens at a time, without a cache: ms is the median of %zu runs, all models in turns, and "
           "tokens/s are those of the sequence over it. Load, first and peak: of a new process.",
           request.length, request.runs)};
  for (const std::string& device : request.devices)
    for (const model_profile& each : study.profiles)
      if (each.device == device) {
        notes.push_back("Speed: " + each.settings + (device == "CPU" ? text("; %zu pinned threads.", request.threads) : "."));
        break;
      }
  if (request.held_out)
    notes.push_back(text("kl: nats/token to %s, on the CPU in float32 without quantized activations, %s held out (%zu "
                         "positions).",
                         study.profiles.front().subject.name.c_str(), programs::size_text(study.held_out).c_str(),
                         study.held_out.positions()) +
                    (request.trained ? " +-: standard error of the perplexity's difference to that model's."
                                     : " The weights are random: perplexity would mean nothing."));
  return notes;
}

using value_of = std::function<double(const model_profile&)>;

programs::scatter_plot plot_of(const profile_study& study, const std::string& title, const programs::axis& across,
                               const value_of& x, const programs::axis& up, const value_of& y) {
  programs::scatter_plot plot{title, across, up, {}, {}};
  for (const model_profile& each : study.profiles) {
    const std::string name = each.subject.family + (study.request.devices.size() > 1 ? " on " + each.device : "");
    auto found = std::ranges::find(plot.series, name, &programs::plot_series::name);
    if (found == plot.series.end()) found = plot.series.insert(found, {name, {}, false});
    const cells heading = heading_of(study), row = row_of(study, each);
    std::string description = row[0];
    for (std::size_t c = 1; c < row.size(); ++c) description += ", " + heading[c] + " " + row[c];
    found->points.push_back({x(each), y(each), description});
  }
  return plot;
}

}  // namespace

void print_profile(const profile_study& study) {
  const cells heading = heading_of(study);
  programs::table lines{"ll" + std::string(heading.size() - 2, 'r')};
  lines.add(heading);
  for (const model_profile& each : study.profiles) lines.add(row_of(study, each));
  lines.print(stdout);
  for (const std::string& each : notes_on(study)) std::printf("%s\n", each.c_str());
}

std::string profile_json(const profile_study& study) {
  using json = nlohmann::ordered_json;
  const profile_request& request = study.request;
  json models = json::array();
  for (const model_profile& each : study.profiles) {
    json model{{"name", each.subject.name},
               {"model", each.subject.xml.string()},
               {"device", each.device},
               {"settings", each.settings},
               {"bytes", each.bytes},
               {"load_seconds", each.start.load_seconds},
               {"first_seconds", each.start.first_seconds},
               {"peak_bytes", each.start.peak_bytes},
               {"median_seconds", each.seconds_at(0.5)},
               {"p90_seconds", each.seconds_at(0.9)},
               {"tokens_per_second", study.tokens_per_second(each)}};
    if (each.quality) model["kl"] = each.quality->kl.mean();
    if (each.quality && request.trained) {
      model["perplexity"] = each.quality->perplexity();
      const double error = each.quality->perplexity_error(*study.profiles.front().quality);
      model["perplexity_error"] = std::isnan(error) ? json(nullptr) : json(error);
    }
    models.push_back(model);
  }
  json document{{"format", "klens-profile"},
                {"version", 1},
                {"length", request.length},
                {"threads", request.threads},
                {"runs", request.runs}};
  if (request.held_out)
    document["tokens"] = {{"file", request.held_out->file.string()},
                          {"sequences", study.held_out.sequences},
                          {"length", study.held_out.length},
                          {"positions", study.held_out.positions()}};
  document["models"] = models;
  return klens::json_text(document);
}

std::string profile_page(const profile_study& study) {
  programs::report_page page{"Size, speed and quality on the device"};
  for (const std::string& each : notes_on(study)) page.add_paragraph(each);
  const programs::axis size{"size on disk, MB", false}, speed{"tokens per second", false};
  const value_of bytes = [](const model_profile& of) { return megabytes(of.bytes); };
  const value_of rate = [&](const model_profile& of) { return study.tokens_per_second(of); };
  std::vector<programs::scatter_plot> plots;
  if (!study.request.held_out) {
    plots.push_back(plot_of(study, "Size and speed", size, bytes, speed, rate));
  } else {
    const programs::axis kl{"KL, nats/token", true}, perplexity{"perplexity", false};
    const value_of damage = [](const model_profile& of) { return of.quality->kl.mean(); };
    const value_of surprise = [](const model_profile& of) { return of.quality->perplexity(); };
    plots.push_back(plot_of(study, "Size against KL", size, bytes, kl, damage));
    plots.push_back(plot_of(study, "Speed against KL", speed, rate, kl, damage));
    if (study.request.trained) {
      plots.push_back(plot_of(study, "Size against perplexity", size, bytes, perplexity, surprise));
      plots.push_back(plot_of(study, "Speed against perplexity", speed, rate, perplexity, surprise));
    }
  }
  page.add_plots(plots);
  programs::page_table table{heading_of(study), {}, {}, false};
  for (const model_profile& each : study.profiles) table.rows.push_back(row_of(study, each));
  page.add_table(table);
  return page.html();
}

}  // namespace openvino_adapter

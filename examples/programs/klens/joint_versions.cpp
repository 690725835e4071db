#include "joint_versions.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <klens/plan/measure.hpp>
#include <klens/site.hpp>
#include <map>

#include "comma_list.hpp"
#include "model_comparison.hpp"
#include "storable.hpp"
#include "terminal.hpp"

namespace programs {
namespace {

std::string name_of_part(const joint_part& of) { return std::string{klens::name_of(of.first)} + "=" + of.second; }

std::vector<joint_part> parts_of(const std::string& version) {
  std::vector<joint_part> parts;
  for (const std::string& each : parts_at_commas(version)) {
    const std::size_t equals = each.find('=');
    const klens::site_kind kind =
        equals == std::string::npos ? klens::site_kind::weights : klens::site_kind_of(each.substr(0, equals));
    if (std::ranges::find(parts, kind, &joint_part::first) != parts.end())
      throw klens::argument_error{"--schemes '" + version + "': " + std::string{klens::name_of(kind)} + " is there twice"};
    parts.emplace_back(kind, klens::scheme{equals == std::string::npos ? each : each.substr(equals + 1)}.name());
  }
  return parts;
}

// The layers of the model, and of what it keeps at run time the kinds that are asked for.
std::vector<klens::layer> layers_of(model& of, const std::vector<joint_part>& parts, const site_options& options) {
  std::vector<klens::layer> all;
  for (const weight& each : of.weights()) all.push_back(each.as_layer());
  for (const auto& [kind, scheme] : parts) {
    if (kind == klens::site_kind::weights) continue;
    std::vector<klens::layer> some = of.sites(std::span(&kind, 1), options);
    if (some.empty())
      throw klens::argument_error{"--schemes: the model has no site of the kind " + std::string{klens::name_of(kind)}};
    for (klens::layer& each : some)
      if (std::ranges::find(all, each.name, &klens::layer::name) == all.end()) all.push_back(std::move(each));
  }
  return all;
}

// Adds one part to a version. Layers that the scheme cannot store stay as they are, and are counted.
std::size_t add_part(klens::model_version& version, const joint_part& part, const std::vector<klens::layer>& layers) {
  const klens::scheme storage{part.second};
  std::size_t left = 0, taken = 0;
  std::string reason;
  for (const klens::layer& each : layers) {
    if (each.site != part.first) continue;
    if (can_store(storage, each)) {
      version.emplace(each.name, storage);
      ++taken;
      continue;
    }
    if (left++ == 0) reason = each.name + ": " + storage.name() + " " + klens::why_not_stored(each, storage);
  }
  if (taken == 0) throw klens::argument_error{"--schemes " + name_of_part(part) + ": no site can be stored so; " + reason};
  return left;
}

}  // namespace

joint_versions::joint_versions(model& of, const std::vector<std::string>& versions, std::size_t context,
                               const site_layout& layout)
    : model_{of} {
  for (const std::string& each : versions) {
    asked_.push_back(parts_of(each));
    for (const joint_part& part : asked_.back())
      if (std::ranges::find(single_, part) == single_.end()) single_.push_back(part);
  }
  layers_ = layers_of(
      of, single_,
      {.context = context, .kv_by_channel = layout.kv_by_channel, .activations_per_tensor = layout.activations_per_tensor});
  for (const joint_part& part : single_)
    if (const std::size_t left = add_part(all_.emplace_back(), part, layers_); left > 0)
      remarks_ += text("%s: %zu that cannot be stored so stay as they are\n", name_of_part(part).c_str(), left);
  for (const auto& parts : asked_) {
    klens::model_version& version = all_.emplace_back();
    for (const joint_part& part : parts) (void)add_part(version, part, layers_);
  }
}

void joint_versions::print(const token_set& tokens, const run_arguments& arguments) {
  const std::vector<klens::measured_version> measured =
      measure_versions(model_, layers_, all_, tokens, arguments.sequences_per_batch(), arguments.threads);

  std::vector<double> kl_of_part;
  table lines{"lrrrrrr"};
  lines.add({"stored otherwise", "kl", "+-", "sum of parts", "kl / sum", "ppl", "top1"});
  const auto add = [&](const std::string& name, const klens::measured_version& one, double sum) {
    const double error = one.kl_error();
    lines.add({name, text("%.5g", one.kl.mean()), std::isnan(error) ? "" : text("%.2g", error),
               std::isnan(sum) ? "" : text("%.5g", sum), std::isnan(sum) || !(sum > 0) ? "" : text("%.3f", one.kl.mean() / sum),
               text("%.4f", one.perplexity()), text("%.4f", one.top1.mean())});
  };
  for (std::size_t p = 0; p < single_.size(); ++p) {
    kl_of_part.push_back(measured[p + 1].kl.mean());
    add(name_of_part(single_[p]), measured[p + 1], std::nan(""));
  }
  for (std::size_t v = 0; v < asked_.size(); ++v) {
    if (asked_[v].size() < 2) continue;  // is a part itself
    double sum = 0;
    std::string name;
    for (const joint_part& part : asked_[v]) {
      sum += kl_of_part[static_cast<std::size_t>(std::ranges::find(single_, part) - single_.begin())];
      name += (name.empty() ? "" : ",") + name_of_part(part);
    }
    add(name, measured[single_.size() + 1 + v], sum);
  }
  std::printf("\nkl in nats/token against the untouched model, all layers of a kind together\n\n");
  lines.print(stdout);
  std::printf("+-: standard error of kl, from its spread between sequences\n%s", remarks_.c_str());
}

}  // namespace programs

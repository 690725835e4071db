#include <algorithm>
#include <cstdio>
#include <klens/plan/measure.hpp>
#include <klens/rank/rank_layers.hpp>

#include "command_parts.hpp"
#include "ir_model.hpp"
#include "ir_sampler.hpp"
#include "openvino_commands.hpp"
#include "scan_request.hpp"

namespace openvino_adapter {
namespace {

void print_damage_of_device(ir_model& model, const programs::token_set& tokens, std::size_t per_batch, std::size_t threads) {
  klens::measured_version device;
  for (std::size_t first = 0; first < tokens.sequences; first += per_batch) {
    const programs::token_set some = tokens.part(first, std::min(per_batch, tokens.sequences - first));
    device.add(model.logits(some.tokens, some.length), model.by_default().logits(some.tokens, some.length),
               {.length = some.length, .counted = some.counted(), .threads = threads});
  }
  std::printf("what the device itself adds: kl %.3g nats/token over %zu positions (%s)\n", device.kl.mean(),
              device.kl.positions(), model.by_default().settings().c_str());
}

}  // namespace

bool rank(const programs::rank_arguments& arguments) {
  const programs::scan_request request{arguments};
  const std::filesystem::path& xml = arguments.run.model;
  ir_model model{read_ir(xml), arguments.run.threads};
  programs::scan_subject subject{xml.filename().string() + " on OpenVINO",
                                 {xml, weights_file(xml)},
                                 request.chosen(model.layers()),
                                 request.tokens_for(sampler_of(model, arguments.run.threads))};
  const std::size_t per_batch = request.sequences_per_batch();
  const auto forward = [&](std::size_t batch) {
    return model.logits(subject.tokens.batch(batch, per_batch), subject.tokens.length);
  };
  const auto measure = [&](const auto& schemes, const auto& metrics, const auto& options) {
    return klens::rank_layers(subject.layers, forward, schemes, metrics, options);
  };
  const bool complete = request.rank(subject, measure, {.checkpoint = arguments.checkpoint});
  if (complete) print_damage_of_device(model, subject.tokens, per_batch, arguments.run.threads);
  return complete;
}

void add_rank(CLI::App& app, programs::rank_arguments& arguments, bool& interrupted) {
  CLI::App& command =
      programs::add_rank_command(app, arguments, "an IR: model.xml, with model.bin beside it", rank, interrupted);
  programs::add_generate(command, "--tokens", arguments.run.tokens, programs::scored_seed);
}

}  // namespace openvino_adapter

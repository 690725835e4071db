#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <klens/io/plan_json.hpp>

#include "compressed_ir.hpp"
#include "ir_session.hpp"
#include "openvino_commands.hpp"
#include "plan_remarks.hpp"

namespace openvino_adapter {
namespace {

void compress(const compress_arguments& arguments) {
  expect_writable_ir(arguments.output);
  const klens::plan plan = klens::read_plan(arguments.plan);
  checked_ir ir = read_ir(arguments.model);
  const stored_plan stored = store_plan(ir, plan, arguments.plan.string());
  const ir_session by_default{ir, "CPU", {}, 0};
  write_ir(ir, arguments.output);

  for (const auto& [scheme, share] : stored.schemes)
    std::printf("%zu layers as %s: %llu bytes\n", share.layers, scheme.c_str(), static_cast<unsigned long long>(share.bytes));
  if (stored.untouched > 0) std::printf("%zu layers as they were: the plan has them not\n", stored.untouched);
  std::printf("%s", programs::remarks_on(plan.unknown, &plan).c_str());
  const auto [compressed, all] = by_default.compressed_matrices();
  std::printf("%zu of %zu matrices are read compressed (%s)\n", compressed, all, by_default.settings().c_str());
  const std::uintmax_t bytes = std::filesystem::file_size(weights_file(arguments.output));
  std::printf("model written to %s: %ju bytes of weights, %llu of them the plan's; %ju bytes of graph\n",
              arguments.output.c_str(), bytes, static_cast<unsigned long long>(plan.bytes),
              std::filesystem::file_size(arguments.output));
}

}  // namespace

void add_compress(CLI::App& app, compress_arguments& arguments) {
  CLI::App& command = *app.add_subcommand("compress", "store an IR's weights as a plan says");
  command.add_option("MODEL", arguments.model, "an IR that is not compressed: model.xml, with model.bin beside it")->required();
  command.add_option("--plan", arguments.plan, "plan.json, of this IR or of the model that it was made from")->required();
  command.add_option("--output", arguments.output, "the new IR: NAME.xml; its weights go into NAME.bin")->required();
  command.callback([&arguments] { compress(arguments); });
}

}  // namespace openvino_adapter

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "commands.hpp"
#include "engine/model.hpp"
#include "load_model.hpp"
#include "terminal.hpp"

namespace programs {

void layers(const std::filesystem::path& folder, bool json, bool split_fused, bool strict) {
  model loaded = load_model(folder, strict);
  nlohmann::json list = nlohmann::json::array();
  table lines{"lrlrr"};
  lines.add({"layer", "block", "kind", "shape", "weights"});
  for (const weight& each : loaded.weights(split_fused)) {
    const auto rows = each.rows, columns = each.columns;
    list.push_back({{"name", each.name},
                    {"block", each.block},
                    {"kind", each.kind},
                    {"shape", {rows, columns}},
                    {"stage", each.stage},
                    {"tied", each.tied}});
    lines.add({each.name + (each.tied ? " (tied to the embedding)" : ""), each.block < 0 ? "" : text("%d", each.block),
               each.kind, text("%td x %td", rows, columns), text("%td", rows * columns)});
  }
  nlohmann::json kept = nlohmann::json::array();
  for (const weight& each : loaded.small_weights())
    kept.push_back({{"name", each.name}, {"block", each.block}, {"kind", each.kind}, {"shape", {each.rows, each.columns}}});
  if (json) {
    std::printf("%s\n", nlohmann::json{{"model_type", loaded.type()}, {"layers", list}, {"kept", kept}}.dump(1).c_str());
  } else {
    lines.print(stdout);
    std::printf("\nand %zu small weights that are kept in full precision (convolutions, A_log, D, norms, biases)\n",
                kept.size());
  }
}

}  // namespace programs

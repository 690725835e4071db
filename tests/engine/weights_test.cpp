#include "engine/model.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "folders.hpp"

using programs::weight;
using support::forward;
using support::golden;
using support::some_tokens;

namespace {

std::set<std::string> kinds_of(const std::vector<weight>& all) {
  std::set<std::string> kinds;
  for (const weight& each : all) kinds.insert(each.kind);
  return kinds;
}

const weight& named(const std::vector<weight>& all, const std::string& name) {
  const auto at = std::ranges::find(all, name, &weight::name);
  REQUIRE(at != all.end());
  return *at;
}

}  // namespace

TEST_CASE("weights: the embedded model has 57, the head tied to the embedding") {
  programs::model model = programs::model::load(std::filesystem::path(KLENS_EXAMPLE_DATA) / "wikitext-hybrid-4m");
  const std::vector<weight> all = model.weights();
  CHECK(all.size() == 57);
  CHECK(kinds_of(all) == std::set<std::string>{"in_proj", "x_proj", "dt_proj", "out_proj", "q_proj", "k_proj", "v_proj",
                                               "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"});
  const weight& head = named(all, "lm_head.weight");
  CHECK(head.tied);
  CHECK(head.stage == 0);
  CHECK(head.block == -1);
  const weight& x_proj = named(all, "model.layers.3.mamba.x_proj.weight");
  CHECK(x_proj.rows == 44);
  CHECK(x_proj.columns == 384);
  CHECK(x_proj.block == 3);
  CHECK(x_proj.stage == 7);  // after the embedding and three blocks of two stages
  CHECK(named(all, "model.layers.3.feed_forward.up_proj.weight").stage == 8);
  CHECK(std::ranges::is_sorted(all, {}, &weight::stage));
}

TEST_CASE("weights: an untied embedding and the experts are layers of their own") {
  programs::model model = programs::model::load(golden / "jamba_moe");
  const std::vector<weight> all = model.weights();
  const weight& embedding = named(all, "model.embed_tokens.weight");
  CHECK(embedding.kind == "embed_tokens");
  CHECK(embedding.stage == 0);
  CHECK(!embedding.tied);
  CHECK(named(all, "lm_head.weight").stage == model.stages());
  CHECK(named(all, "model.layers.1.feed_forward.experts.3.up_proj.weight").kind == "expert_up_proj");
  CHECK(named(all, "model.layers.1.feed_forward.router.weight").kind == "router");
}

TEST_CASE("weights: fused ones come as named row ranges of the same memory") {
  const auto names_of = [](const char* type, const std::string& fused) {
    programs::model model = programs::model::load(golden / type);
    const std::vector<weight> whole = model.weights(), split = model.weights(true);
    const weight& one = named(whole, fused);
    std::string names;
    Eigen::Index rows = 0;
    for (const weight& each : split) {
      if (!each.name.starts_with(fused + "[")) continue;
      names += each.name.substr(fused.size());
      CHECK(each.of == one.of);
      CHECK(each.first == one.first + rows);
      CHECK(each.columns == one.columns);
      CHECK(each.stage == one.stage);
      rows += each.rows;
    }
    CHECK(rows == one.rows);
    CHECK(std::ranges::find(split, fused, &weight::name) == split.end());
    return names;
  };
  CHECK(names_of("jamba", "model.layers.0.mamba.in_proj.weight") == "[x][z]");
  CHECK(names_of("jamba", "model.layers.0.mamba.x_proj.weight") == "[dt][B][C]");
  CHECK(names_of("mamba2", "backbone.layers.2.mixer.in_proj.weight") == "[z][x][B][C][dt]");
  CHECK(names_of("hymba", "model.layers.1.mamba.in_proj.weight") == "[q][k][v][x][z]");
  CHECK(names_of("hymba", "model.layers.2.mamba.in_proj.weight") == "[q][x][z]");  // which takes keys and values of layer 1
  CHECK(names_of("lfm2", "model.layers.0.conv.in_proj.weight") == "[B][C][x]");
  CHECK(names_of("variants/qwen3_5_tied", "model.layers.0.linear_attn.in_proj_qkv.weight") == "[q][k][v]");
  CHECK(names_of("variants/qwen3_5_tied", "model.layers.1.self_attn.q_proj.weight") == "[q0][gate0][q1][gate1]");
  CHECK(names_of("variants/qwen3_next_experts", "model.layers.0.linear_attn.in_proj_qkvz.weight") ==
        "[q0][k0][v0][z0][q1][k1][v1][z1]");
  CHECK(names_of("variants/zamba2_two_blocks", "model.layers.1.shared_transformer.feed_forward.gate_up_proj.weight") ==
        "[gate][up]");
}

TEST_CASE("weights: every one is read anew by each forward, from its own stage on and not before") {
  for (const char* const type : {"bamba",
                                 "falcon_h1",
                                 "falcon_mamba",
                                 "jamba_moe",
                                 "llama",
                                 "mamba",
                                 "mamba2",
                                 "variants/jamba_biases_tied",
                                 "gemma3",
                                 "hymba",
                                 "lfm2",
                                 "variants/mistral_window",
                                 "variants/smollm3_windows",
                                 "variants/granitemoehybrid_moe",
                                 "variants/nemotron_h_biases",
                                 "variants/nemotron_h_experts",
                                 "variants/olmo_hybrid_positive",
                                 "variants/qwen2_windows",
                                 "variants/qwen3_biases_tied",
                                 "variants/qwen3_next_experts",
                                 "variants/qwen3_5_tied",
                                 "variants/zamba2_two_blocks"}) {
    INFO(type);
    programs::model model = programs::model::load(golden / type);
    const std::vector<std::int32_t> tokens = some_tokens(model, 30);
    const klens::matrix<float> before = forward(model, tokens, 1);
    std::vector<weight> all = model.weights();
    for (weight& each : model.small_weights()) all.push_back(each);
    for (weight& each : all) {
      INFO(each.name);
      CHECK(!each.kind.empty());
      klens::layer layer = each.as_layer();
      const klens::matrix<float> kept = layer.load(), changed = kept * 1.5f;
      layer.store(changed);
      programs::state at = model.begin(tokens, 1, 30);
      for (std::size_t stage = 0; stage < model.stages(); ++stage) {
        const bool early = stage < each.stage;
        if (early) layer.store(kept);
        model.advance(at, stage);
        if (early) layer.store(changed);
      }
      CHECK(model.logits(at) != before);                     // it is used
      CHECK(forward(model, tokens, 1) == model.logits(at));  // and no stage before its own uses it
      layer.store(kept);
    }
    CHECK(forward(model, tokens, 1) == before);
  }
}

TEST_CASE("weights: what reaches later stages past the residual stream says so") {
  programs::model zamba = programs::model::load(golden / "variants/zamba2_two_blocks");
  const std::vector<weight> shared = zamba.weights();
  const std::string block = "model.layers.1.shared_transformer.";  // also of layer 4
  CHECK(named(shared, block + "self_attn.q_proj.weight").stage == 2);
  CHECK(named(shared, block + "self_attn.q_proj.weight").last_stage == 5);
  CHECK(named(shared, block + "feed_forward.gate_up_proj_adapter_list.2.0.weight").stage == 5);
  CHECK(named(shared, block + "feed_forward.gate_up_proj_adapter_list.2.0.weight").kind == "gate_up_proj_adapter_list");
  CHECK(named(shared, "model.layers.1.linear.weight").last_stage == 2);
  CHECK(named(shared, "lm_head.weight").last_stage == zamba.stages());  // tied

  programs::model hymba = programs::model::load(golden / "hymba");  // layer 2 uses the keys and values of layer 1
  const std::vector<weight> all = hymba.weights();
  CHECK(named(all, "model.layers.1.mamba.in_proj.weight").last_stage ==
        named(all, "model.layers.2.mamba.in_proj.weight").stage);
  CHECK(named(all, "model.layers.2.mamba.in_proj.weight").last_stage ==
        named(all, "model.layers.2.mamba.in_proj.weight").stage);
  CHECK(named(all, "model.layers.1.mamba.x_proj.0.weight").kind == "x_proj");
}

TEST_CASE("small weights are all the others") {
  programs::model model = programs::model::load(golden / "mamba2");
  CHECK(kinds_of(model.small_weights()) == std::set<std::string>{"conv1d", "bias", "A_log", "D", "dt_bias", "norm", "norm_f"});
  const std::vector<weight> small = model.small_weights();
  const weight& conv = named(small, "backbone.layers.1.mixer.conv1d.weight");
  CHECK(conv.rows == 224);
  CHECK(conv.columns == 4);
}

#include "exporters/auto_round.hpp"
#include "exporters/compressed_tensors.hpp"
#include "exporters/llama_quantize.hpp"
#include "exporters/mlx_lm.hpp"
#include "exporters/modelopt.hpp"
#include "exporters/nncf.hpp"
#include "exporters/olive.hpp"
// first: the headers stand alone
#include <doctest/doctest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

using klens::stored_layer;
using nlohmann::json;
using layers = std::vector<stored_layer>;

static const layers two{{"model.layers.0.mamba.in_proj.weight", "int4-signed-g64", 768, 192},
                        {"model.layers.0.mamba.x_proj.weight", "int8-signed-channel", 44, 384},
                        {"model.layers.0.mamba.dt_proj.weight", "fp16", 384, 12},
                        {"lm_head.weight", "int8-signed-channel", 2048, 192}};

TEST_CASE("integer schemes taken apart") {
  const auto form = klens::parse_integer("int4-signed-g64");
  REQUIRE(form);
  CHECK(form->bits == 4);
  CHECK(form->grid == klens::grid::signed_);
  CHECK(form->group_size == 64);
  CHECK(form->scale == klens::scale_kind::f16);
  CHECK(klens::parse_integer("int8-channel-f32")->scale == klens::scale_kind::f32);
  CHECK(klens::parse_integer("int8-channel")->grid == klens::grid::absmax);
  CHECK(klens::parse_integer("int3-asym-channel")->group_size == 0);
  for (const char* other : {"int9-channel", "int4", "int4-g0", "int4-g", "int4-sym-g64", "q4_0", "fp16", "int4-g64-s16", ""})
    CHECK(!klens::parse_integer(other));
}

TEST_CASE("NNCF: one pass for each scheme, in which the layers of all others are ignored") {
  const std::string text = klens::export_nncf(two, true).text;
  CHECK(text ==
        "# A klens plan for NNCF: model = compress(model) takes an uncompressed OpenVINO or ONNX model that was made from "
        "PyTorch.\n"
        "import nncf\n\n"
        "PASSES = [\n"
        "    # int4-signed-g64\n"
        "    (dict(mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64, ratio=1.0, all_layers=True, "
        "backup_mode=nncf.BackupMode.NONE), [\n"
        "        r\"model[./]layers[./]0[./]mamba[./]in_proj\",\n"
        "    ]),\n"
        "    # int8-signed-channel\n"
        "    (dict(mode=nncf.CompressWeightsMode.INT8_SYM), [\n"
        "        r\"model[./]layers[./]0[./]mamba[./]x_proj\",\n"
        "        r\"lm_head\",\n"
        "        r\"model[./]embed_tokens\",\n"
        "    ]),\n"
        "]\n\n\n"
        "def compress(model):\n"
        "    for options, layers in PASSES:\n"
        "        # every node but these layers and constants, whose names are ignored as well as those of their users\n"
        "        others = r\"^(?!self\\.|Constant|(?:.*[./])?(?:\" + \"|\".join(layers) + r\")/)\"\n"
        "        model = nncf.compress_weights(model, ignored_scope=nncf.IgnoredScope(patterns=[others]), **options)\n"
        "    return model\n");
  CHECK(klens::export_nncf(two, false).text.find("embed_tokens") == std::string::npos);
}

TEST_CASE("AutoRound: a layer_config of module names") {
  layers plan = two;
  plan[1].rows = 64;
  CHECK(json::parse(klens::export_auto_round(plan, false).text) == json::parse(R"({
    "model.layers.0.mamba.in_proj": {"bits": 4, "group_size": 64, "sym": true, "data_type": "int"},
    "model.layers.0.mamba.x_proj": {"bits": 8, "group_size": -1, "sym": true, "data_type": "int"},
    "model.layers.0.mamba.dt_proj": {"bits": 16},
    "lm_head": {"bits": 8, "group_size": -1, "sym": true, "data_type": "int"}})"));
}

TEST_CASE("ModelOpt: all off, then each layer's weight quantizer") {
  const layers plan{{"model.layers.0.mamba.in_proj.weight", "int4-g64", 768, 192},
                    {"model.layers.0.mamba.x_proj.weight", "int8-channel", 44, 384},
                    {"model.layers.0.mamba.dt_proj.weight", "bf16", 384, 12}};
  CHECK(klens::export_modelopt(plan).text ==
        "# A klens plan for ModelOpt.\n"
        "PLAN = {\n"
        "    \"quant_cfg\": [\n"
        "        {\"quantizer_name\": \"*\", \"enable\": False},\n"
        "        {\"quantizer_name\": \"model.layers.0.mamba.in_proj.weight_quantizer\", \"cfg\": {\"num_bits\": 4, "
        "\"block_sizes\": {-1: 64, \"type\": \"static\"}}},\n"
        "        {\"quantizer_name\": \"model.layers.0.mamba.x_proj.weight_quantizer\", \"cfg\": {\"num_bits\": 8, "
        "\"axis\": 0}},\n"
        "    ],\n"
        "    \"algorithm\": \"max\",\n"
        "}\n");
}

TEST_CASE("mlx-lm: 1 for the finer of two schemes") {
  const layers plan{{"model.layers.0.mlp.up_proj.weight", "int8-asym-g64", 128, 64},
                    {"model.layers.0.mlp.down_proj.weight", "int4-asym-g64", 64, 128},
                    {"lm_head.weight", "int8-asym-g64", 2048, 64}};
  const klens::exported result = klens::export_mlx_lm(plan, true);
  CHECK(json::parse(result.text) ==
        json::parse(
            R"([["model.layers.0.mlp.up_proj", 1.0], ["model.layers.0.mlp.down_proj", 0.0], ["model.embed_tokens", 1.0]])"));
  CHECK(result.usage.ends_with("--low-bits 4 --low-group-size 64 --high-bits 8 --high-group-size 64"));
  CHECK(json::parse(klens::export_mlx_lm(std::span(plan).first(1), false).text) ==
        json::parse(R"([["model.layers.0.mlp.up_proj", 0.0]])"));
}

TEST_CASE("llama-quantize: anchored, disjoint, lower-case patterns without blanks or comments") {
  const layers plan{{"model.layers.1.mamba.in_proj.weight", "q4_0", 768, 192},
                    {"model.layers.11.mamba.in_proj.weight", "q8_0", 768, 192},
                    {"model.layers.1.mamba.dt_proj.weight", "fp16", 384, 12},
                    {"model.layers.2.feed_forward.experts.0.gate_proj.weight", "q4_0", 448, 192},
                    {"model.layers.2.feed_forward.experts.1.gate_proj.weight", "q4_0", 448, 192},
                    {"model.layers.2.self_attn.o_proj.weight", "bf16", 192, 192},
                    {"lm_head.weight", "q8_0", 2048, 192}};
  const std::string text = klens::export_llama_quantize(plan, true).text;
  std::istringstream lines{text};
  std::vector<std::pair<std::string, std::string>> entries;
  for (std::string line; lines >> line;) entries.emplace_back(line.substr(0, line.find('=')), line.substr(line.find('=') + 1));
  REQUIRE(entries.size() == 7);
  const std::vector<std::pair<std::string, std::string>> expected{
      {"blk.1.ssm_in.weight", "q4_0"},        {"blk.11.ssm_in.weight", "q8_0"},     {"blk.1.ssm_dt.weight", "f16"},
      {"blk.2.ffn_gate_exps.weight", "q4_0"}, {"blk.2.attn_output.weight", "bf16"}, {"token_embd.weight", "q8_0"},
      {"blk.1.ssm_x.weight", "f16"},          {"blk.111.ssm_in.weight", "f16"},     {"xblk.1.ssm_in.weight", "f16"}};
  for (const auto& each : expected) {
    const std::string& tensor = each.first;
    CAPTURE(tensor);
    int matches = 0;
    std::string found;
    for (const auto& [pattern, name] : entries) {
      CHECK(pattern.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ# ") == std::string::npos);
      if (!std::regex_search(tensor, std::regex{pattern})) continue;
      ++matches;
      found = name;
    }
    CHECK(matches == 1);
    CHECK(found == each.second);
  }
  CHECK(klens::export_llama_quantize(plan, false).text.find("^output\\.weight$=q8_0\n") != std::string::npos);
}

TEST_CASE("compressed-tensors: a group of modules a scheme, and those in floats ignored") {
  const layers plan{{"model.layers.0.self_attn.q_proj.weight", "int4-signed-g64", 192, 192},
                    {"model.layers.0.self_attn.k_proj.weight", "int4-signed-g64", 64, 192},
                    {"model.layers.0.mlp.down_proj.weight", "int8-channel", 192, 512},
                    {"model.layers.0.mlp.up_proj.weight", "mxfp4", 512, 192},
                    {"model.layers.1.mlp.down_proj.weight", "nvfp4", 192, 512},
                    {"model.layers.1.mlp.up_proj.weight", "int3-asym-g32", 512, 192},
                    {"model.layers.2.mlp.down_proj.weight", "fp8-e4m3-channel", 192, 512},
                    {"lm_head.weight", "bf16", 2048, 192}};
  CHECK(json::parse(klens::export_compressed_tensors(plan, true).text) == json::parse(R"({
    "config_groups": {
      "group_0": {"targets": ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj"], "weights":
        {"num_bits": 4, "type": "int", "symmetric": true, "dynamic": false, "strategy": "group", "group_size": 64}},
      "group_1": {"targets": ["model.layers.0.mlp.down_proj"], "weights":
        {"num_bits": 8, "type": "int", "symmetric": true, "dynamic": false, "strategy": "channel"}},
      "group_2": {"targets": ["model.layers.0.mlp.up_proj"], "weights":
        {"num_bits": 4, "type": "float", "symmetric": true, "dynamic": false, "strategy": "group", "group_size": 32,
         "scale_dtype": "torch.uint8"}},
      "group_3": {"targets": ["model.layers.1.mlp.down_proj"], "weights":
        {"num_bits": 4, "type": "float", "symmetric": true, "dynamic": false, "strategy": "tensor_group", "group_size": 16,
         "scale_dtype": "torch.float8_e4m3fn"}},
      "group_4": {"targets": ["model.layers.1.mlp.up_proj"], "weights":
        {"num_bits": 3, "type": "int", "symmetric": false, "dynamic": false, "strategy": "group", "group_size": 32}},
      "group_5": {"targets": ["model.layers.2.mlp.down_proj"], "weights":
        {"num_bits": 8, "type": "float", "symmetric": true, "dynamic": false, "strategy": "channel"}}},
    "ignore": ["lm_head"]})"));
}

TEST_CASE("Olive: the usual scheme, and overrides for the modules of others") {
  const layers plan{{"model.layers.0.mlp.up_proj.weight", "int4-asym-g32", 512, 192},
                    {"model.layers.0.mlp.down_proj.weight", "int8-signed-channel", 192, 512},
                    {"model.layers.1.mlp.up_proj.weight", "int4-asym-g32", 512, 192},
                    {"lm_head.weight", "fp16", 2048, 192}};
  const auto with_head = [&](const char* scheme) {
    layers other = plan;
    other.back().scheme = scheme;
    return json::parse(klens::export_olive(other, false).text);
  };
  json expected = json::parse(R"({"bits": 4, "group_size": 32, "sym": false, "lm_head": false, "overrides": {
    "model.layers.0.mlp.down_proj": {"bits": 8, "symmetric": true, "group_size": -1}}})");
  CHECK(json::parse(klens::export_olive(plan, true).text) == expected);
  CHECK(with_head("f32") == expected);
  expected["lm_head"] = true;
  CHECK(with_head("int4-asym-g32") == expected);
}

TEST_CASE("exporters: schemes of other families, where the target has them") {
  const auto text_of = [](const klens::exported& made, const std::string& part) {
    INFO(made.text);
    CHECK(made.text.find(part) != std::string::npos);
  };
  const layers nf4{{"a.up.weight", "nf4-g64", 64, 192}}, nf4_rows{{"a.up.weight", "nf4-channel", 64, 192}},
      mxfp4{{"a.up.weight", "mxfp4", 64, 192}}, nvfp4{{"a.up.weight", "nvfp4", 64, 192}},
      fp8{{"a.up.weight", "fp8-e4m3-channel", 64, 192}};
  const std::string rest = ", ratio=1.0, all_layers=True, backup_mode=nncf.BackupMode.NONE), [\n        r\"a[./]up\"";
  text_of(klens::export_nncf(nf4, false), "dict(mode=nncf.CompressWeightsMode.NF4, group_size=64" + rest);
  text_of(klens::export_nncf(nf4_rows, false), "dict(mode=nncf.CompressWeightsMode.NF4, group_size=-1" + rest);
  text_of(klens::export_nncf(mxfp4, false), "dict(mode=nncf.CompressWeightsMode.MXFP4, group_size=32" + rest);
  text_of(klens::export_modelopt(fp8), "{\"num_bits\": (4, 3), \"axis\": 0}}");
  text_of(klens::export_modelopt(mxfp4),
          "{\"num_bits\": (2, 1), \"block_sizes\": {-1: 32, \"type\": \"dynamic\", \"scale_bits\": (8, 0)}}}");
  text_of(klens::export_modelopt(nvfp4),
          "{\"num_bits\": (2, 1), \"block_sizes\": {-1: 16, \"type\": \"static\", \"scale_bits\": (4, 3)}}}");
  for (const char* type : {"q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"})
    text_of(klens::export_llama_quantize(layers{{"model.layers.3.mlp.up_proj.weight", type, 64, 512}}, false),
            std::string{"^blk\\.3\\.ffn_up\\.weight$="} + type + "\n");
}

TEST_CASE("compressed-tensors and Olive: layers that become one must share a scheme") {
  const auto refuses = [](auto to, const char* first, const char* second, const std::string& why) {
    const layers plan{{std::string{"model.layers.0."} + first + ".weight", "int4-signed-g64", 64, 192},
                      {std::string{"model.layers.0."} + second + ".weight", "int8-signed-channel", 64, 192}};
    INFO(first, " ", second);
    CHECK_THROWS_WITH_AS((void)to(plan, false), doctest::Contains(why.c_str()), klens::argument_error);
  };
  const std::string merged = "cannot store int8-signed-channel, which the plan gives to model.layers.0.";
  refuses(klens::export_compressed_tensors, "self_attn.q_proj", "self_attn.v_proj", merged + "self_attn.v_proj.weight: vLLM");
  refuses(klens::export_compressed_tensors, "mlp.gate_proj", "mlp.up_proj",
          "model.layers.0.mlp.gate_proj.weight, which has int4");
  refuses(klens::export_compressed_tensors, "mlp.experts.0.up_proj", "mlp.experts.3.down_proj", "(--together)");
  refuses(klens::export_olive, "self_attn.k_proj", "self_attn.q_proj", merged + "self_attn.q_proj.weight: it gives one scheme");
  const layers apart{{"model.layers.0.mlp.up_proj.weight", "int4-signed-g64", 64, 192},
                     {"model.layers.0.mlp.down_proj.weight", "int8-signed-channel", 64, 192},
                     {"model.layers.1.mlp.gate_proj.weight", "int8-signed-channel", 64, 192}};
  CHECK_NOTHROW((void)klens::export_compressed_tensors(apart, false));
  CHECK_NOTHROW((void)klens::export_olive(apart, false));
}

TEST_CASE("exporters: a scheme that a target cannot store is named, with the target and the layer") {
  const auto with = [](const char* scheme, std::uint64_t columns = 192,
                       const char* layer = "model.layers.0.mlp.up_proj.weight") {
    return layers{{layer, scheme, 64, columns}};
  };
  using exporter = std::function<klens::exported(const layers&)>;
  const auto refuses = [](const exporter& to, const layers& plan, const std::string& message) {
    CAPTURE(message);
    CHECK_THROWS_WITH_AS((void)to(plan), message.c_str(), klens::argument_error);
  };
  const exporter nncf = [](const layers& plan) { return klens::export_nncf(plan, false); };
  const exporter mlx = [](const layers& plan) { return klens::export_mlx_lm(plan, false); };
  const exporter llama = [](const layers& plan) { return klens::export_llama_quantize(plan, false); };
  const exporter auto_round = [](const layers& plan) { return klens::export_auto_round(plan, false); };
  const exporter modelopt = [](const layers& plan) { return klens::export_modelopt(plan); };
  const exporter compressed = [](const layers& plan) { return klens::export_compressed_tensors(plan, true); };
  const exporter olive = [](const layers& plan) { return klens::export_olive(plan, true); };

  refuses(nncf, with("int4-g64"),
          "NNCF cannot store int4-g64, which the plan gives to model.layers.0.mlp.up_proj.weight: it has int4 and int8, each "
          "signed "
          "or asym, with fp16 scales, nf4 and mxfp4");
  refuses(
      nncf, with("int4-signed-g128"),
      "NNCF cannot store int4-signed-g128, which the plan gives to model.layers.0.mlp.up_proj.weight: the groups do not divide "
      "its 192 columns");
  refuses(nncf, with("int8-signed-g64"),
          "NNCF cannot store int8-signed-g64, which the plan gives to model.layers.0.mlp.up_proj.weight: its int8 has one "
          "scale for "
          "each row");
  for (const char* scheme :
       {"int5-signed-g64", "q4_0", "int4-signed-g64-f32", "nonsense", "fp8-e4m3-channel", "nvfp4", "nf4-g128"})
    CHECK_THROWS_AS((void)nncf(with(scheme)), klens::argument_error);
  for (const char* scheme :
       {"int4-g64", "int8-asym-g64", "q8_0", "int4-asym-g64-f32", "fp8-e4m3-channel", "mxfp4", "nvfp4", "nf4-g64"})
    CHECK_THROWS_AS((void)auto_round(with(scheme)), klens::argument_error);
  refuses(
      [](const layers& plan) { return klens::export_auto_round(plan, true); },
      with("int8-signed-channel", 192, "lm_head.weight"),
      "AutoRound cannot store int8-signed-channel, which the plan gives to lm_head.weight: it does not quantize a head tied to "
      "the embedding");
  refuses(auto_round, {two[1]},
          "AutoRound cannot store int8-signed-channel, which the plan gives to model.layers.0.mamba.x_proj.weight: it leaves "
          "layers "
          "in 16 bits unless rows and columns are multiples of 32");
  for (const char* scheme : {"int4-signed-g64", "int4-asym-g64", "q8_0", "int4-g128", "fp8-e5m2-channel", "nf4-g64"})
    CHECK_THROWS_AS((void)modelopt(with(scheme)), klens::argument_error);
  for (const char* scheme : {"mxfp4", "nvfp4"}) {
    CHECK_THROWS_AS((void)modelopt(with(scheme, 200)), klens::argument_error);
    CHECK_THROWS_AS((void)compressed(with(scheme, 200)), klens::argument_error);
  }
  for (const char* scheme : {"q8_0", "int4-signed-g128", "int4-signed-g64-f32", "fp8-e5m2-channel", "nf4-g64", "nonsense"})
    CHECK_THROWS_AS((void)compressed(with(scheme)), klens::argument_error);
  for (const char* scheme : {"int4-g64", "int5-asym-g64", "int4-signed-g128", "fp16", "mxfp4", "int4-asym-g64-f32", "q4_0"})
    CHECK_THROWS_AS((void)olive(with(scheme)), klens::argument_error);
  for (const exporter& to : {compressed, olive})
    CHECK_THROWS_WITH_AS((void)to(with("int8-signed-channel", 192, "lm_head.weight")),
                         doctest::Contains("the head is tied to the embedding; pin it to fp16"), klens::argument_error);
  for (const char* scheme : {"int4-g64", "int7-asym-g64", "int4-asym-g16", "int4-asym-channel", "int4-asym-g128", "fp16",
                             "fp8-e4m3-channel", "mxfp4", "nvfp4", "nf4-g64"})
    CHECK_THROWS_AS((void)mlx(with(scheme)), klens::argument_error);
  for (const char* scheme : {"int4-signed-g32", "int8-channel", "q4_k", "fp8-e4m3-channel", "mxfp4", "nvfp4", "nf4-g64"})
    CHECK_THROWS_AS((void)llama(with(scheme)), klens::argument_error);
  refuses(
      llama, with("q8_0", 12),
      "llama-quantize cannot store q8_0, which the plan gives to model.layers.0.mlp.up_proj.weight: its blocks of 32 do not "
      "divide 12 columns");
  refuses(llama, with("fp16", 192, "model.layers.0.feed_forward.router.weight"),
          "llama-quantize does not quantize model.layers.0.feed_forward.router.weight; keep it out of the plan");
  refuses(
      llama,
      {{"model.layers.0.mlp.experts.0.up_proj.weight", "q4_0", 8, 64},
       {"model.layers.0.mlp.experts.1.up_proj.weight", "q8_0", 8, 64}},
      "llama-quantize cannot store q8_0, which the plan gives to model.layers.0.mlp.experts.1.up_proj.weight: it is one tensor "
      "with model.layers.0.mlp.experts.0.up_proj.weight, which has q4_0");
  refuses(mlx,
          {{"a.weight", "int4-asym-g64", 8, 64}, {"b.weight", "int5-asym-g64", 8, 64}, {"c.weight", "int8-asym-g64", 8, 64}},
          "mlx-lm cannot store int8-asym-g64, which the plan gives to c.weight: --sensitivities chooses between two schemes, "
          "this is "
          "the third");
  for (const exporter& to : {nncf, llama, auto_round, modelopt, compressed, olive})
    for (const char* name : {"model.layers.0.in_proj.weight[0:384]", "a\"b.weight", "a b.weight", "bias", "x\n.weight", ""})
      CHECK_THROWS_AS((void)to(with("fp16", 192, name)), klens::argument_error);
}

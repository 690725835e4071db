#include "engine/config.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "folders.hpp"

using support::changed_folder;
using support::golden;
using support::load_error;
using support::temporary_folder;

namespace {

bool holds(const std::string& text, const std::string& part) {
  INFO("text: '", text, "'");
  CHECK(text.find('\n') == std::string::npos);
  return text.find(part) != std::string::npos;
}

programs::config config_from(const temporary_folder& folder, const std::string& text) {
  klens::write_file(folder / "config.json", text);
  return programs::config(folder / "config.json");
}

std::string parse_error(const std::string& text) {
  const temporary_folder folder;
  try {
    (void)config_from(folder, text);
  } catch (const klens::file_error& error) {
    return error.what();
  }
  return "";
}

/// What loading says once a field of a model's config is another.
std::string with_field(const char* type, const std::string& field, const nlohmann::json& value,
                       programs::load_options options = {}) {
  const changed_folder folder(golden / type, [&](nlohmann::json& fields) { fields[field] = value; });
  return load_error(folder.path(), options);
}

}  // namespace

TEST_CASE("config: infinities and NaN, bare or as newer files write them") {
  const temporary_folder folder;
  const programs::config fields = config_from(
      folder,
      R"({"a": Infinity, "b": [-Infinity, 1], "c": NaN, "d": {"__float__": "Infinity"}, "e": "say \"Infinity, NaN\"", "f": "\\"})");
  CHECK(fields.number("a", 0) == HUGE_VAL);
  CHECK(fields.numbers("b", {}) == std::vector<double>{-HUGE_VAL, 1});
  CHECK(std::isnan(fields.number("c", 0)));
  CHECK(fields.number("d", 0) == HUGE_VAL);
  CHECK(fields.text("e", "") == "say \"Infinity, NaN\"");
  CHECK(fields.text("f", "") == "\\");
}

TEST_CASE("config: what is no config is refused in one line") {
  CHECK(holds(parse_error(""), "is empty"));
  CHECK(holds(parse_error("{"), "no JSON from byte"));
  CHECK(holds(parse_error("{\"a\": Infinit}"), "no JSON from byte"));
  CHECK(holds(parse_error("{} {}"), "no JSON from byte"));
  CHECK(holds(parse_error("[]"), "no JSON object"));
  CHECK(holds(parse_error(R"({"hidden_size": 2e308})"), "a number beyond 1.8e308"));
  CHECK(holds(parse_error(std::string(1'000'000, '[')), "nested too deeply"));
  std::string objects;
  for (int i = 0; i < 1000; ++i) objects += R"({"a":)";
  CHECK(holds(parse_error(objects), "nested too deeply"));
}

TEST_CASE("config: values of the wrong type or size are named") {
  const temporary_folder folder;
  const programs::config fields = config_from(
      folder, R"({"text": "1", "half": 0.5, "zero": 0, "minus": -1, "huge": 3000000000, "list": [1, "x"], "none": null})");
  const auto refuses = [&](const auto& read, const std::string& name) {
    try {
      (void)read();
    } catch (const klens::file_error& error) {
      return holds(error.what(), "field '" + name + "'");
    }
    return false;
  };
  for (const char* const name : {"text", "half", "zero", "minus", "huge", "list"})
    CHECK(refuses([&] { return fields.count(name); }, name));
  CHECK(refuses([&] { return fields.count("missing"); }, "missing"));
  CHECK(refuses([&] { return fields.count("none"); }, "none"));
  CHECK(refuses([&] { return fields.flag("text", true); }, "text"));
  CHECK(refuses([&] { return fields.text("half", ""); }, "half"));
  CHECK(refuses([&] { return fields.numbers("list", {}); }, "list"));
  CHECK(refuses([&] { return fields.numbers("half", {}); }, "half"));
  CHECK(fields.count("none", 5) == 5);
  CHECK(fields.is_null("none"));
  CHECK(!fields.is_null("missing"));
}

TEST_CASE("config: an unknown model type comes with those that are known") {
  const std::string said = with_field("jamba", "model_type", "gpt2");
  for (const char* const known : {"'gpt2'", "bamba", "falcon_h1", "jamba", "llama", "mamba", "mamba2"})
    CHECK(holds(said, known));
  CHECK(holds(with_field("jamba", "model_type", nullptr), "model_type"));
}

TEST_CASE("config: no field is ignored in silence") {
  for (const char* const type : {"bamba", "falcon_h1", "falcon_mamba", "jamba", "llama", "mamba", "mamba2"}) {
    INFO(type);
    CHECK(holds(with_field(type, "new_trick", true, {.strict = true}), "field 'new_trick' is unknown"));
    CHECK(with_field(type, "new_trick", nullptr, {.strict = true}).empty());
    CHECK(holds(with_field(type, "hidden_act", "gelu"), "field 'hidden_act'"));
    CHECK(with_field(type, "hidden_act", "swish").empty());
    CHECK(holds(with_field(type, "quantization_config", {{"bits", 4}}), "field 'quantization_config'"));
    CHECK(holds(with_field(type, "sliding_window", 16), "field 'sliding_window'"));
  }
  CHECK(holds(with_field("jamba", "mamba_inner_layernorms", false), "mamba_inner_layernorms"));
  CHECK(holds(with_field("jamba", "attn_layer_offset", 2), "attn_layer_offset"));
  CHECK(holds(with_field("jamba_moe", "num_experts_per_tok", 5), "num_experts_per_tok"));
  CHECK(holds(with_field("llama", "num_key_value_heads", 3), "num_key_value_heads"));
  CHECK(holds(with_field("mamba2", "n_groups", 4), "n_groups"));
  CHECK(holds(with_field("mamba2", "head_dim", 15), "num_heads"));
  CHECK(holds(with_field("mamba2", "time_step_limit", {1, 0}), "time_step_limit"));
  CHECK(holds(with_field("mamba", "rms_norm", false), "rms_norm"));
  CHECK(holds(with_field("mamba", "ssm_cfg", {{"layer", "Mamba2"}}), "ssm_cfg"));
  CHECK(holds(with_field("falcon_h1", "ssm_multipliers", {1, 1}), "ssm_multipliers"));
}

TEST_CASE("config: scaling of rotary positions that is not carried out is refused by name") {
  CHECK(holds(with_field("llama", "rope_parameters", {{"rope_type", "magic"}}), "'rope_parameters.rope_type' is 'magic'"));
  CHECK(holds(with_field("llama", "rope_parameters", {{"rope_type", "linear"}}), "'rope_parameters.factor'"));
  CHECK(holds(with_field("llama", "rope_parameters", {{"rope_type", "llama3"}, {"factor", 2}}), "low_freq_factor"));
  CHECK(holds(with_field("llama", "rope_parameters", {{"rope_type", "longrope"}, {"short_factor", {1}}, {"long_factor", {1}}}),
              "short_factor"));
  CHECK(
      holds(with_field("llama", "rope_parameters", {{"rope_type", "default"}, {"mrope_section", {1, 2, 3}}}), "mrope_section"));
  CHECK(holds(with_field("llama", "partial_rotary_factor", 0.5), "partial_rotary_factor"));
  CHECK(holds(with_field("llama", "rope_theta", -1), "rope_theta"));
}

TEST_CASE("config: a missing field has the default of its model type") {
  const changed_folder folder(golden / "jamba", [](nlohmann::json& fields) {
    for (const char* const name : {"mamba_d_state", "mamba_dt_rank", "mamba_conv_bias", "rms_norm_eps", "tie_word_embeddings"})
      fields.erase(name);
  });
  CHECK(load_error(folder.path()).empty());
}

TEST_CASE(
    "config: every field of the authors' definitions that changes the result does so here, or the weights contradict it") {
  const struct {
    std::string folder;
    nlohmann::json fields;  // with other values
  } types[] = {{"bamba",
                {{"attention_bias", true},
                 {"attn_layer_indices", {1}},
                 {"hidden_size", 24},
                 {"intermediate_size", 79},
                 {"mamba_conv_bias", false},
                 {"mamba_d_conv", 3},
                 {"mamba_d_head", 8},
                 {"mamba_d_state", 12},
                 {"mamba_expand", 1},
                 {"mamba_n_groups", 2},
                 {"mamba_n_heads", 3},
                 {"mamba_proj_bias", true},
                 {"mlp_bias", true},
                 {"num_attention_heads", 2},
                 {"num_hidden_layers", 3},
                 {"num_key_value_heads", 4},
                 {"rms_norm_eps", 0.1},
                 {"vocab_size", 96},
                 {"time_step_limit", {0.3, 0.5}},
                 {"rope_theta", 10.0},
                 {"head_dim", 6}}},
               {"falcon_h1",
                {{"attention_bias", true},
                 {"attention_in_multiplier", 2},
                 {"attention_out_multiplier", 2},
                 {"embedding_multiplier", 1},
                 {"head_dim", 6},
                 {"hidden_size", 24},
                 {"intermediate_size", 79},
                 {"key_multiplier", 1},
                 {"lm_head_multiplier", 1},
                 {"mamba_conv_bias", false},
                 {"mamba_d_conv", 3},
                 {"mamba_d_head", 8},
                 {"mamba_d_ssm", nullptr},
                 {"mamba_d_state", 12},
                 {"mamba_n_groups", 2},
                 {"mamba_n_heads", 8},
                 {"mamba_proj_bias", true},
                 {"mamba_rms_norm", true},
                 {"mlp_bias", true},
                 {"mlp_multipliers", {1, 1}},
                 {"num_attention_heads", 2},
                 {"num_hidden_layers", 2},
                 {"num_key_value_heads", 4},
                 {"projectors_bias", true},
                 {"rms_norm_eps", 0.1},
                 {"ssm_in_multiplier", 1},
                 {"ssm_multipliers", {1, 1, 1, 1, 1}},
                 {"ssm_out_multiplier", 1},
                 {"time_step_limit", {0.3, 0.5}},
                 {"vocab_size", 96},
                 {"rope_theta", 10.0}}},
               {"jamba_moe",
                {{"attn_layer_offset", 0}, {"attn_layer_period", 3},   {"expert_layer_offset", 0}, {"expert_layer_period", 4},
                 {"hidden_size", 24},      {"intermediate_size", 39},  {"mamba_conv_bias", false}, {"mamba_d_conv", 3},
                 {"mamba_d_state", 8},     {"mamba_dt_rank", 2},       {"mamba_expand", 1},        {"mamba_proj_bias", true},
                 {"num_experts", 3},       {"num_experts_per_tok", 1}, {"num_hidden_layers", 3},   {"num_attention_heads", 2},
                 {"rms_norm_eps", 0.1},    {"num_key_value_heads", 4}, {"vocab_size", 96},         {"head_dim", 6},
                 {"num_local_experts", 3}}},
               {"llama",
                {{"attention_bias", true},
                 {"head_dim", 6},
                 {"hidden_size", 24},
                 {"intermediate_size", 79},
                 {"mlp_bias", true},
                 {"num_attention_heads", 2},
                 {"num_hidden_layers", 2},
                 {"num_key_value_heads", 4},
                 {"rms_norm_eps", 0.1},
                 {"rope_theta", 10.0},
                 {"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}}},
                 {"vocab_size", 96}}},
               {"mamba",
                {{"conv_kernel", 3},
                 {"hidden_size", 24},
                 {"intermediate_size", 95},
                 {"layer_norm_epsilon", 0.1},
                 {"num_hidden_layers", 2},
                 {"state_size", 8},
                 {"tie_word_embeddings", false},
                 {"time_step_rank", 2},
                 {"use_bias", true},
                 {"use_conv_bias", false},
                 {"vocab_size", 96}}},
               {"mamba2",
                {{"conv_kernel", 3},
                 {"expand", 1},
                 {"head_dim", 8},
                 {"hidden_size", 24},
                 {"layer_norm_epsilon", 0.1},
                 {"n_groups", 1},
                 {"num_heads", 12},
                 {"num_hidden_layers", 2},
                 {"state_size", 16},
                 {"time_step_limit", {0.3, 0.5}},
                 {"use_bias", true},
                 {"use_conv_bias", false},
                 {"vocab_size", 96}}}};
  for (const auto& each : types) {
    const std::string type = each.folder;
    const programs::model before = programs::model::load(golden / type);
    const std::vector<std::int32_t> tokens = support::some_tokens(before, 20);
    const klens::matrix<float> logits = support::forward(before, tokens, 1);
    for (const auto& item : each.fields.items()) {
      const std::string field = item.key();
      const nlohmann::json& value = item.value();
      INFO(type, " ", field);
      const changed_folder folder(golden / type, [&](nlohmann::json& config) {
        if (field == "rope_theta") config.erase("rope_parameters");  // where newer files keep it
        config[field] = value;
      });
      if (load_error(folder.path()).empty()) CHECK(support::forward(programs::model::load(folder.path()), tokens, 1) != logits);
    }
  }
}

TEST_CASE("config: fields of training, kernels and chunks change no bit") {
  const std::pair<std::string, nlohmann::json> types[] = {
      {"bamba", {{"mamba_chunk_size", 3}, {"num_logits_to_keep", 0}, {"z_loss_coefficient", 0.1}, {"attention_dropout", 0.5}}},
      {"falcon_h1",
       {{"mamba_chunk_size", 3}, {"mamba_norm_before_gate", false}, {"mamba_expand", 3}, {"time_step_floor", 0.5}}},
      {"jamba",
       {{"use_mamba_kernels", false}, {"output_router_logits", true}, {"router_aux_loss_coef", 1}, {"num_experts_per_tok", 2}}},
      {"llama", {{"pretraining_tp", 2}, {"max_position_embeddings", 8}, {"initializer_range", 1}, {"dtype", "bfloat16"}}},
      {"mamba",
       {{"residual_in_fp32", false}, {"expand", 3}, {"time_step_min", 0.5}, {"time_step_scale", 2}, {"use_mambapy", true}}},
      {"mamba2", {{"chunk_size", 3}, {"residual_in_fp32", false}, {"time_step_max", 9}, {"time_step_rank", 5}}}};
  for (const auto& each : types) {
    const std::string type = each.first;
    const programs::model before = programs::model::load(golden / type);
    const std::vector<std::int32_t> tokens = support::some_tokens(before, 20);
    const klens::matrix<float> logits = support::forward(before, tokens, 1);
    for (const auto& item : each.second.items()) {
      const std::string field = item.key();
      const nlohmann::json& value = item.value();
      INFO(type, " ", field);
      const changed_folder folder(golden / type, [&](nlohmann::json& config) { config[field] = value; });
      CHECK(support::forward(programs::model::load(folder.path()), tokens, 1) == logits);
    }
  }
}

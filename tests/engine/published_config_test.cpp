// Configs as people publish them: fields that change nothing, fields that nobody knows, other formats.
#include "engine/model.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <map>

#include "folders.hpp"

using support::changed_folder;
using support::content_of;
using support::golden;
using support::load_error;

namespace {

const std::filesystem::path cases = std::filesystem::path(KLENS_TEST_DATA) / "cases/configs";

/// The golden folder whose weights a config of the cases has.
std::string folder_of(const std::string& file) {
  const nlohmann::json fields = nlohmann::json::parse(content_of(cases / file), nullptr, false);
  if (file.find("jamba_moe") != std::string::npos) return "jamba_moe";
  return fields.is_discarded() ? "mamba2" : fields.at("model_type").get<std::string>();  // a bare Infinity
}

klens::matrix<float> logits_of(const programs::model& of) { return support::forward(of, support::some_tokens(of, 2 * 20), 2); }

bool same_bits(const klens::matrix<float>& a, const klens::matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

bool holds(const std::string& text, const std::string& part) {
  INFO("text: '", text, "'");
  CHECK(text.find('\n') == std::string::npos);
  return text.find(part) != std::string::npos;
}

changed_folder with(const char* type, const std::map<std::string, nlohmann::json>& changes) {
  return changed_folder(golden / type, [&](nlohmann::json& fields) {
    for (const auto& [field, value] : changes) fields[field] = value;
  });
}

}  // namespace

TEST_CASE("configs as they are published load without a remark, and move no bit of the logits") {
  std::size_t found = 0;
  for (const auto& each : std::filesystem::directory_iterator{cases}) {
    const std::string file = each.path().filename().string(), type = folder_of(file);
    INFO(file);
    const changed_folder folder(golden / type);
    folder.write("config.json", content_of(each.path()));
    const programs::model model = programs::model::load(folder.path(), {.strict = true});
    CHECK(model.remarks().empty());
    const bool same = same_bits(logits_of(model), logits_of(programs::model::load(golden / type)));
    CHECK(same == (file != "19_yarn_finetuned.json"));  // which has another scaling of positions
    ++found;
  }
  CHECK(found == 14);
}

TEST_CASE("and so do others of their kind: what every config of transformers may have") {
  const struct {
    const char* type;
    std::map<std::string, nlohmann::json> fields;
  } changes[] = {
      {"llama", {{"_experimental", 3}, {"unk_token_id", 0}, {"is_decoder", true}, {"max_new_tokens", 5}, {"num_labels", 3}}},
      {"llama",
       {{"sliding_window", nullptr}, {"use_sliding_window", false}, {"layer_types", {"full_attention", "full_attention"}}}},
      {"bamba", {{"pruned_heads", {{"1", {0}}}}, {"chunk_size_feed_forward", 4}, {"_flash_attn_2_enabled", true}}},
      {"falcon_h1", {{"suppress_tokens", {1, 2}}, {"embd_pdrop", 0.1}, {"final_logit_softcapping", nullptr}}},
      {"jamba", {{"n_ctx", 4}, {"prefix", "x"}, {"rope_interleaved", false}, {"attention_bias", false}}},
      {"mamba", {{"cross_attention_hidden_size", nullptr}, {"add_cross_attention", false}, {"torch_dtype", "bfloat16"}}},
      {"mamba2", {{"norm_before_gate", false}, {"time_step_scale", 2.0}, {"_name_or_path", "somewhere"}}}};
  for (const auto& each : changes) {
    INFO(each.type);
    const changed_folder folder = with(each.type, each.fields);
    CHECK(load_error(folder.path(), {.strict = true}) == "");
    const programs::model model = programs::model::load(folder.path());
    CHECK(model.remarks().empty());
    CHECK(same_bits(logits_of(model), logits_of(programs::model::load(golden / each.type))));
  }
}

TEST_CASE("a field that nobody knows is named in one remark; strict refuses it") {
  const changed_folder folder =
      with("llama", {{"new_trick", true},
                     {"another", {1, 2}},
                     {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 10000.0}, {"new\nshape", 1}}}});
  const programs::model model = programs::model::load(folder.path());
  REQUIRE(model.remarks().size() == 1);
  for (const char* const name : {"'new_trick'", "'another'", "'rope_parameters.new?shape'", "--strict"})
    CHECK(holds(model.remarks()[0], name));
  CHECK(same_bits(logits_of(model), logits_of(programs::model::load(golden / "llama"))));
  CHECK(holds(load_error(folder.path(), {.strict = true}), "is unknown to klens"));
}

TEST_CASE("a field that changes the result and is not carried out is refused by name") {
  const std::pair<const char*, nlohmann::json> telling[] = {{"final_logit_softcapping", 30.0},
                                                            {"rope_interleaved", true},
                                                            {"use_sliding_window", true},
                                                            {"sliding_window", 16},
                                                            {"layer_types", {"full_attention", "sliding_attention"}},
                                                            {"logits_scaling", 8},
                                                            {"add_cross_attention", true},
                                                            {"is_encoder_decoder", true},
                                                            {"num_local_experts", 8},
                                                            {"compression_config", {{"bits", 4}}}};
  for (const auto& [field, value] : telling) {
    const changed_folder folder = with("llama", {{field, value}});
    CHECK(holds(load_error(folder.path()), "field '" + std::string(field) + "' is"));
  }
  CHECK(holds(load_error(with("llama", {{"rope_scaling", {{"type", "spiral"}, {"finetuned", true}}}}).path()), "'spiral'"));
}

TEST_CASE("mamba-ssm's own format is named, with what converts it") {
  const support::temporary_folder folder;
  klens::write_file(folder / "config.json", R"({"d_model": 768, "n_layer": 24, "vocab_size": 50277, "ssm_cfg": {}})");
  const std::string said = load_error(folder.path());  // although there are no safetensors
  CHECK(holds(said, "mamba-ssm's own format"));
  CHECK(holds(said, "convert_mamba_ssm_checkpoint_to_pytorch.py"));
}

TEST_CASE("of a model of text and images the text model is taken, and the rest is named") {
  const std::vector<float> pixels(8, 1.f);
  const changed_folder folder(
      golden / "gemma3",
      [](nlohmann::json& fields) {
        fields.erase("tie_word_embeddings");
        fields = {{"model_type", "gemma3"},
                  {"tie_word_embeddings", true},
                  {"text_config", fields},
                  {"vision_config", {{"hidden_size", 4}}},
                  {"image_token_index", 7}};
      },
      [&](std::vector<klens::stored_tensor>& tensors) {
        for (klens::stored_tensor& each : tensors) each.name = "language_model." + each.name;
        tensors.push_back(klens::as_tensor<float>("vision_tower.patch.weight", {2, 4}, pixels));
        tensors.push_back(klens::as_tensor<float>("multi_modal_projector.weight", {8}, pixels));
      });
  programs::model model = programs::model::load(folder.path(), {.strict = true});
  CHECK(model.type() == "gemma3_text");
  REQUIRE(model.remarks().size() == 1);
  for (const char* const left : {"vision_config", "'vision_tower' (1 tensor)", "'multi_modal_projector' (1 tensor)"})
    CHECK(holds(model.remarks()[0], left));
  CHECK(same_bits(logits_of(model), logits_of(programs::model::load(golden / "gemma3"))));
  CHECK(model.weights()[1].name.starts_with("language_model.model.layers.0."));  // as in the file
}

TEST_CASE("experts that the file stacks in one tensor give the bits of single ones, each a layer of its own") {
  std::vector<std::vector<std::byte>> memory;
  const changed_folder folder(golden / "jamba_moe", {}, [&](std::vector<klens::stored_tensor>& tensors) {
    std::map<std::string, klens::stored_tensor> single;
    for (const klens::stored_tensor& each : tensors) single.emplace(each.name, each);
    std::erase_if(tensors, [](const klens::stored_tensor& each) { return each.name.find(".experts.") != std::string::npos; });
    for (const char* const block : {"1", "3"}) {
      const std::string prefix = std::string("model.layers.") + block + ".feed_forward.experts.";
      std::vector<std::byte> in, out;
      for (int i = 0; i < 4; ++i) {
        for (const char* const part : {"gate_proj", "up_proj", "down_proj"}) {
          const klens::stored_tensor& from = single.at(prefix + std::to_string(i) + "." + part + ".weight");
          std::vector<std::byte>& into = std::string_view(part) == "down_proj" ? out : in;
          into.insert(into.end(), from.bytes.begin(), from.bytes.end());
        }
      }
      memory.push_back(std::move(in));
      tensors.push_back({prefix + "gate_up_proj", "F32", {4, 80, 48}, memory.back()});
      memory.push_back(std::move(out));
      tensors.push_back({prefix + "down_proj", "F32", {4, 48, 40}, memory.back()});
    }
  });
  programs::model model = programs::model::load(folder.path());
  CHECK(same_bits(logits_of(model), logits_of(programs::model::load(golden / "jamba_moe"))));

  const auto named = [](const std::vector<programs::weight>& all, const std::string& name) {
    const auto at = std::ranges::find(all, name, &programs::weight::name);
    REQUIRE(at != all.end());
    return *at;
  };
  const std::string fused = "model.layers.3.feed_forward.experts.gate_up_proj";
  const std::vector<programs::weight> whole = model.weights(), split = model.weights(true);
  const programs::weight third = named(whole, fused + "[2]"), up = named(split, fused + "[2][up]");
  CHECK(third.rows == 80);
  CHECK(third.columns == 48);
  CHECK(third.kind == "expert_gate_up_proj");
  CHECK(third.tensor == fused);
  CHECK(up.rows == 40);
  CHECK(up.of == third.of);
  CHECK(up.first == third.first + 40);
  CHECK(std::ranges::find(split, fused + "[2]", &programs::weight::name) == split.end());
  CHECK(named(split, "model.layers.3.feed_forward.experts.down_proj[0]").rows == 48);
}

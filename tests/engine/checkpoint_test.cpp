#include "engine/checkpoint.hpp"

#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <fstream>
#include <functional>
#include <klens/weight_guard.hpp>
#include <limits>
#include <optional>

#include "folders.hpp"

using support::changed_folder;
using support::forward;
using support::golden;
using support::load_error;
using support::some_tokens;
using support::temporary_folder;

namespace {

using tensor_list = std::vector<klens::stored_tensor>;

bool holds(const std::string& text, const std::string& part) {
  INFO("text: '", text, "'");
  CHECK(text.find('\n') == std::string::npos);
  return text.find(part) != std::string::npos;
}

klens::stored_tensor& named(tensor_list& all, const std::string& name) {
  const auto at = std::ranges::find(all, name, &klens::stored_tensor::name);
  REQUIRE(at != all.end());
  return *at;
}

std::string with_tensors(const changed_folder::change_tensors& change, const char* type = "jamba") {
  return load_error(changed_folder(golden / type, {}, change).path());
}

/// A copy of a model in shards of two tensors each.
class sharded_folder {
 public:
  explicit sharded_folder(const std::filesystem::path& from) {
    std::filesystem::copy(from / "config.json", path() / "config.json");
    const klens::safetensors file{from / "model.safetensors"};
    for (std::size_t i = 0; i < file.tensors().size(); i += 2) {
      const std::string name = "part-" + std::to_string(i / 2) + ".safetensors";
      const auto some = file.tensors().subspan(i, std::min<std::size_t>(2, file.tensors().size() - i));
      klens::write_safetensors(path() / name, some);
      for (const klens::stored_tensor& each : some) index["weight_map"][each.name] = name;
    }
    write_index();
  }
  void write_index() const { klens::write_file(path() / "model.safetensors.index.json", index.dump()); }
  [[nodiscard]] const std::filesystem::path& path() const { return folder_.path(); }

  nlohmann::json index;

 private:
  temporary_folder folder_;
};

/// The stored floats rounded to T and kept as another type, alive here.
template <class T, class Kept = T>
struct converted {
  std::vector<std::vector<Kept>> kept;
  void operator()(tensor_list& all) {
    for (klens::stored_tensor& each : all) {
      std::vector<float> values(each.elements());
      std::memcpy(values.data(), each.bytes.data(), each.bytes.size());
      std::vector<Kept>& made = kept.emplace_back();
      for (const float value : values) made.push_back(static_cast<Kept>(static_cast<T>(value)));
      each = klens::as_tensor<Kept>(each.name, each.shape, made);
    }
  }
};

/// Kilobytes that /proc/self/status names.
std::optional<long> own_memory(const std::string& field) {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field + ":")) return std::stol(line.substr(field.size() + 1));
  return std::nullopt;
}

/// Bytes by which a child process grows at most while it does some work.
std::optional<double> added_memory(const std::function<void()>& work) {
  if (!own_memory("VmHWM")) return std::nullopt;
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const long before = *own_memory("VmRSS");
    work();
    const long added = *own_memory("VmHWM") - before;
    const bool said = ::write(ends[1], &added, sizeof added) == sizeof added;
    ::_exit(said ? 0 : 1);
  }
  long added = 0;
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  REQUIRE(::read(ends[0], &added, sizeof added) == sizeof added);
  ::close(ends[0]);
  ::close(ends[1]);
  return 1024.0 * static_cast<double>(added);
}

}  // namespace

TEST_CASE("checkpoint: shards hold the same model") {
  const programs::model whole = programs::model::load(golden / "mamba2");
  const sharded_folder shards(golden / "mamba2");
  const programs::model together = programs::model::load(shards.path());
  const std::vector<std::int32_t> tokens = some_tokens(whole, 20);
  CHECK(forward(together, tokens, 1) == forward(whole, tokens, 1));
}

TEST_CASE("checkpoint: F16 and BF16 weights become exactly the floats that they are") {
  const auto check = [](auto zero) {
    using T = decltype(zero);
    converted<T> change;
    const changed_folder folder(golden / "llama", {}, std::ref(change));
    programs::model narrow = programs::model::load(folder.path()), wide = programs::model::load(golden / "llama");
    const std::vector<programs::weight> a = narrow.weights(), b = wide.weights();
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      const klens::matrix<float> expected =
          b[i].as_layer().load().unaryExpr([](float x) { return static_cast<float>(static_cast<T>(x)); });
      CHECK(a[i].as_layer().load() == expected);
    }
  };
  check(klens::half{});
  check(klens::bfloat16{});
}

TEST_CASE("checkpoint: a BF16 model takes no more memory than its file; a changed layer adds one float copy") {
  static constexpr std::size_t vocabulary = 1 << 19, width = 48;  // nearly all of it one matrix
  std::vector<klens::bfloat16> embedding(vocabulary * width, klens::bfloat16(0.5f));
  const auto file = static_cast<double>(embedding.size() * sizeof(klens::bfloat16));
  const changed_folder folder(
      golden / "llama",
      [](nlohmann::json& fields) {
        fields["vocab_size"] = vocabulary;
        fields["tie_word_embeddings"] = true;
      },
      [&](tensor_list& all) {
        std::erase_if(all, [](const klens::stored_tensor& each) { return each.name == "lm_head.weight"; });
        klens::stored_tensor& tied = named(all, "model.embed_tokens.weight");
        tied = klens::as_tensor<klens::bfloat16>(tied.name, {vocabulary, width}, embedding);
      });
  embedding = {};
  const std::optional<double> loaded = added_memory([&] { (void)programs::model::load(folder.path()); });
  if (!loaded) return;  // a system that does not say
  CHECK(*loaded < 0.2 * file);
  const auto forward_of = [](programs::model& of) {
    programs::state at = of.begin(std::vector<std::int32_t>{1, 2, 3, 4}, 1, 4);
    for (std::size_t stage = 0; stage < of.stages(); ++stage) of.advance(at, stage);
    return of.logits(at);
  };
  const double whole = *added_memory([&] {
    programs::model model = programs::model::load(folder.path());
    (void)forward_of(model);
  });
  const double logits = 4.0 * vocabulary * sizeof(float), floats = 2 * file;
  const double own = 12e6;  // the program, the config, a panel of 4 MiB
  CHECK(whole > 0.9 * file);
  CHECK(whole < file + logits + own);
  const double scanned = *added_memory([&] {
    programs::model model = programs::model::load(folder.path());
    for (const programs::weight& each : model.weights())
      for (const char* const scheme : {"int4-g16", "int8-channel"}) {
        klens::layer layer = each.as_layer();
        klens::weight_guard guard{layer};
        guard.apply(scheme);
        (void)guard.changed();
        (void)forward_of(model);
      }
  });
  CHECK(scanned < file + floats + logits + own);
}

TEST_CASE("checkpoint: logits of F16 and BF16 weights are those of the same weights as floats, bit for bit") {
  const auto check = [](auto zero, const char* type) {
    using T = decltype(zero);
    INFO(type);
    converted<T> change;
    converted<T, float> rounding;
    const changed_folder narrow(golden / type, {}, std::ref(change)), wide(golden / type, {}, std::ref(rounding));
    const programs::model model = programs::model::load(narrow.path());
    const std::vector<std::int32_t> tokens = some_tokens(model, 2 * 40);
    CHECK(forward(model, tokens, 2) == forward(programs::model::load(wide.path()), tokens, 2));
  };
  for (const char* const type : {"llama", "mamba2", "jamba_moe", "gemma3", "variants/granitemoehybrid_moe", "hymba"}) {
    check(klens::half{}, type);
    check(klens::bfloat16{}, type);
  }
}

TEST_CASE("checkpoint: a missing, surplus or misshapen tensor is named") {
  const std::string name = "model.layers.2.mamba.x_proj.weight";
  CHECK(holds(with_tensors([&](tensor_list& all) { std::erase_if(all, [&](auto& each) { return each.name == name; }); }),
              "no tensor '" + name));
  CHECK(holds(with_tensors([&](tensor_list& all) {
                named(all, name).shape = {96, 35};
              }),
              name + "' is [96, 35], config.json asks for [35, 96]"));
  CHECK(holds(with_tensors([&](tensor_list& all) { named(all, name).shape = {35 * 96}; }), name + "' is [3360]"));
  CHECK(holds(with_tensors([&](tensor_list& all) {
                all.push_back(named(all, name));
                all.back().name = "model.layers.9.mamba.x_proj.weight";
              }),
              "'model.layers.9.mamba.x_proj.weight' that the model of config.json does not use"));
  CHECK(with_tensors([&](tensor_list& all) {  // what older files keep beside the weights
          all.push_back(named(all, "model.layers.0.mamba.D"));
          all.back().name = "model.layers.1.self_attn.rotary_emb.inv_freq";
        })
            .empty());
  const changed_folder fewer_layers(golden / "jamba", [](nlohmann::json& fields) { fields["num_hidden_layers"] = 3; });
  CHECK(holds(load_error(fewer_layers.path()), "model.layers.3."));
  const changed_folder huge(golden / "jamba", [](nlohmann::json& fields) { fields["hidden_size"] = 1073741808; });
  CHECK(holds(load_error(huge.path()), "config.json asks for"));
}

TEST_CASE("checkpoint: types that are no floats of 16 or 32 bits are refused") {
  CHECK(holds(with_tensors([](tensor_list& all) { named(all, "model.layers.0.mamba.D").dtype = "I32"; }), "'I32'"));
  // A shape that only an unknown type can claim costs no memory.
  const temporary_folder folder;
  nlohmann::json fields = support::config_of(golden / "mamba");
  fields["vocab_size"] = 2147483647;
  fields["hidden_size"] = 1073741823;
  klens::write_file(folder / "config.json", fields.dump());
  const std::string header =
      R"({"backbone.embeddings.weight":{"dtype":"ODD","shape":[2147483647,1073741823],"data_offsets":[0,0]}})";
  const std::uint64_t length = header.size();
  klens::write_file(folder / "model.safetensors", std::string(reinterpret_cast<const char*>(&length), 8) + header);
  CHECK(holds(load_error(folder.path()), "'ODD'"));
}

TEST_CASE("checkpoint: a NaN or an infinity among the weights is named") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> values(48 * 96, 1.f);
    values[96 * 7 + 5] = bad;
    const std::string said = with_tensors([&](tensor_list& all) {
      klens::stored_tensor& weight = named(all, "model.layers.0.mamba.out_proj.weight");
      weight = klens::as_tensor<float>(weight.name, weight.shape, values);
    });
    CHECK(holds(said, "model.layers.0.mamba.out_proj.weight"));
    CHECK(holds(said, "row 7"));
  }
}

TEST_CASE("checkpoint: tied weights are found under either name, and are two where their values are") {
  const char* const tied = "variants/jamba_biases_tied";
  const std::string embedding = "model.embed_tokens.weight", head = "lm_head.weight";
  const programs::model plain = programs::model::load(golden / tied);
  const std::vector<std::int32_t> tokens = some_tokens(plain, 20);

  const changed_folder renamed(golden / tied, {}, [&](tensor_list& all) { named(all, embedding).name = head; });
  CHECK(forward(programs::model::load(renamed.path()), tokens, 1) == forward(plain, tokens, 1));

  const changed_folder twice(golden / tied, {}, [&](tensor_list& all) {
    all.push_back(named(all, embedding));
    all.back().name = head;
  });
  programs::model same = programs::model::load(twice.path());
  CHECK(same.weights().front().tied);

  const std::vector<float> other(53 * 24, 0.5f);
  const changed_folder apart(golden / tied, {}, [&](tensor_list& all) {
    all.push_back(klens::as_tensor<float>(head, {53, 24}, other));
  });
  programs::model two = programs::model::load(apart.path());
  CHECK(!two.weights().front().tied);
  CHECK(forward(two, tokens, 1) != forward(plain, tokens, 1));
}

TEST_CASE("checkpoint: faults of a folder and of an index are named") {
  CHECK(holds(load_error("/no/such/folder"), "is no folder"));
  const temporary_folder empty;
  CHECK(holds(load_error(empty.path()), "config.json: cannot be read"));
  std::filesystem::copy(golden / "mamba" / "config.json", empty / "config.json");
  CHECK(holds(load_error(empty.path()), "neither model.safetensors nor"));

  sharded_folder shards(golden / "mamba");
  const auto with_index = [&](const nlohmann::json& index) {
    shards.index = index;
    shards.write_index();
    return load_error(shards.path());
  };
  const nlohmann::json good = shards.index;
  CHECK(with_index(good).empty());
  CHECK(holds(with_index(nlohmann::json::array()), "weight_map"));
  CHECK(holds(with_index({{"weight_map", nlohmann::json::object()}}), "weight_map"));
  nlohmann::json wrong = good;
  wrong["weight_map"]["backbone.norm_f.weight"] = "none.safetensors";
  CHECK(holds(with_index(wrong), "none.safetensors: cannot be read"));
  wrong["weight_map"]["backbone.norm_f.weight"] = "../part-0.safetensors";
  CHECK(holds(with_index(wrong), "no file name"));
  for (const std::string& name : {std::string("two\nlines"), std::string(256, 'a'), std::string("..")}) {
    wrong["weight_map"]["backbone.norm_f.weight"] = name;
    CHECK(holds(with_index(wrong), "no file name"));
  }
  wrong["weight_map"]["backbone.norm_f.weight"] = 7;
  CHECK(holds(with_index(wrong), "no file name"));
  wrong["weight_map"]["backbone.norm_f.weight"] = "part-0.safetensors";
  CHECK(holds(with_index(wrong), "has no tensor 'backbone.norm_f.weight'"));
  wrong = good;
  std::filesystem::copy(shards.path() / "part-0.safetensors", shards.path() / "again.safetensors");
  wrong["weight_map"]["backbone.norm_f.weight"] = "again.safetensors";
  CHECK(holds(with_index(wrong), "which another shard has too"));
}

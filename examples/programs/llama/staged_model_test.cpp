// A model in stages: what it gives is what the whole model gives.
#include "staged_model.hpp"

#include <doctest/doctest.h>

#include <klens/metric/measure.hpp>
#include <klens/metric/metrics.hpp>
#include <klens/weight_guard.hpp>
#include <map>
#include <set>

#include "format_packer.hpp"
#include "gguf_file.hpp"
#include "llama_test.hpp"

using namespace llama_adapter;

namespace {

// As a scan runs it.
klens::matrix<float> logits_of(staged_model& model, std::span<const std::int32_t> tokens) {
  klens::matrix<float> stream;
  for (std::size_t stage = 0; stage < model.stages(); ++stage) model.advance(tokens, stage, stream);
  return model.logits(stream);
}

struct both_ways {
  gguf_file file;
  std::vector<std::int32_t> tokens = some_tokens(12);
  gguf_model whole{file, arithmetic::floats, {}};
  gguf_model stored{file, arithmetic::stored, {}};
  staged_model staged{stored, format_packer::with(nullptr), {.threads = 2}, tokens};

  explicit both_ways(const tiny_model& of) : file{written(of)} {}
  [[nodiscard]] float difference() { return (logits_of(staged, tokens) - whole.logits(tokens, 12)).cwiseAbs().maxCoeff(); }
};

constexpr float rounding = 2e-5f;  // of logits near 10: float32 sums of 256 products, in another order

}  // namespace

TEST_CASE("staged_model: the stages together give the logits of the whole model, whatever the file stores") {
  for (const bool tied : {false, true})
    for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0}) {
      CAPTURE(ggml_type_name(type));
      CAPTURE(tied);
      both_ways model{{.type = type, .tied = tied}};
      CHECK(model.staged.stages() == 5);  // embedding, and attention and MLP of two blocks
      CHECK(model.staged.remarks().empty());
      CHECK(model.difference() < rounding);
      const std::vector<std::int32_t> others = some_tokens(12, 5);
      CHECK((logits_of(model.staged, others) - model.whole.logits(others, 12)).cwiseAbs().maxCoeff() < rounding);
    }
}

TEST_CASE("staged_model: layers are those of the whole model, in the stages that use them") {
  both_ways separate{{}}, tied{{.tied = true}};
  std::set<std::string> names;
  for (const klens::layer& each : separate.whole.layers()) names.insert(each.name);
  for (const klens::layer& each : separate.staged.layers()) {
    CAPTURE(each.name);
    CHECK(names.erase(each.name) == 1);
    const bool of_mlp = holds(each.name, "ffn");
    const std::size_t expected = each.name == "token_embd.weight" ? 0
                                 : each.name == "output.weight"   ? 5
                                 : each.name[4] == '0'            ? (of_mlp ? 2 : 1)
                                                                  : (of_mlp ? 4 : 3);
    CHECK(each.stage == expected);
    CHECK(each.last_stage == expected);
  }
  CHECK(names.empty());
  std::vector<klens::layer> layers = tied.staged.layers();
  const klens::layer& embedding = named(layers, "token_embd.weight");
  CHECK(embedding.stage == 0);
  CHECK(embedding.last_stage == 5);
  CHECK(holds(embedding.note, "tied to the head"));
}

TEST_CASE("staged_model: a candidate changes what the same weights change in the whole model, and goes without a trace") {
  for (const tiny_model& of : {tiny_model{}, tiny_model{.tied = true}, tiny_model{.experts = 3}}) {
    both_ways model{of};
    CHECK(model.difference() < rounding);
    const klens::matrix<float> before = logits_of(model.staged, model.tokens);
    std::vector<klens::layer> staged = model.staged.layers(), whole = model.whole.layers();
    for (const char* type : {"q4_0", "q2_k"})
      for (klens::layer& each : staged) {
        CAPTURE(each.name);
        CAPTURE(type);
        {
          klens::weight_guard here{each}, there{named(whole, each.name)};
          const klens::scheme as{ggml_format{std::string_view{type}}};
          CHECK(here.apply(as).squared_error == doctest::Approx(there.apply(as).squared_error).epsilon(1e-6));
          CHECK(here.changed());
          CHECK_FALSE(same_bits(logits_of(model.staged, model.tokens), before));
          CHECK(model.difference() < rounding);
        }
        CHECK(same_bits(logits_of(model.staged, model.tokens), before));
      }
    for (klens::layer& each : staged) {  // as floats
      CAPTURE(each.name);
      const klens::matrix<float> weights = each.load();
      each.store(2 * weights);
      named(whole, each.name).store(2 * weights);
      CHECK_FALSE(same_bits(logits_of(model.staged, model.tokens), before));
      CHECK(model.difference() < 2 * rounding);
      each.lent()->take_back();
      named(whole, each.name).store(weights);
      CHECK(same_bits(logits_of(model.staged, model.tokens), before));
    }
  }
}

TEST_CASE("staged_model: a stage that runs again sees a candidate of its own at once, and no longer once that is gone") {
  both_ways model{{}};
  for (klens::layer& each : model.staged.layers()) {
    if (each.stage >= model.staged.stages()) continue;  // the head
    CAPTURE(each.name);
    klens::matrix<float> entry, exit;
    for (std::size_t stage = 0; stage < each.stage; ++stage) model.staged.advance(model.tokens, stage, entry);
    const auto run_stage = [&] {
      exit = entry;
      model.staged.advance(model.tokens, each.stage, exit);
      return exit;
    };
    const klens::matrix<float> before = run_stage();
    {
      klens::weight_guard guard{each};
      (void)guard.apply(klens::scheme{ggml_format{std::string_view{"q4_0"}}});
      CHECK_FALSE(same_bits(run_stage(), before));
    }
    CHECK(same_bits(run_stage(), before));
  }
}

TEST_CASE("staged_model: logits do not depend on threads, nor on which rows are asked for together") {
  const gguf_file file{written(tiny_model{})};
  const std::vector<std::int32_t> tokens = some_tokens(12);
  gguf_model of_one{file, arithmetic::stored, {}}, of_three{file, arithmetic::stored, {}};
  staged_model one{of_one, format_packer::with(nullptr), {.threads = 1}, tokens},
      three{of_three, format_packer::with(nullptr), {.threads = 3}, tokens};
  const klens::matrix<float> all = logits_of(one, tokens);
  CHECK(same_bits(logits_of(three, tokens), all));
  klens::matrix<float> stream;
  for (std::size_t stage = 0; stage < one.stages(); ++stage) one.advance(tokens, stage, stream);
  for (Eigen::Index row = 0; row < 12; ++row)
    CHECK((one.logits(stream.middleRows(row, 1)) - all.middleRows(row, 1)).cwiseAbs().maxCoeff() < rounding);
}

TEST_CASE("staged_model: cuts at which a piece does otherwise than the whole go, and the rest stay") {
  using cut_list = std::vector<std::size_t>;
  const auto all_agree = [](std::ptrdiff_t, std::size_t) { return 0.0; };
  CHECK(proven_cuts(4, all_agree) == cut_list{0, 1, 2, 3});
  const auto needs_one_before = [](std::ptrdiff_t from, std::size_t to) { return to == 2 && from == 1 ? 1e-3 : 1e-7; };
  CHECK(proven_cuts(4, needs_one_before) == cut_list{0, 2, 3});
  const auto needs_all = [](std::ptrdiff_t from, std::size_t to) { return to == 2 && from >= 0 ? HUGE_VAL : 0.0; };
  CHECK(proven_cuts(4, needs_all) == cut_list{2, 3});
  const auto not_a_number = [](std::ptrdiff_t from, std::size_t) { return from == 0 ? NAN : 0.0; };
  CHECK(proven_cuts(3, not_a_number) == cut_list{1, 2});
  CHECK(proven_cuts(3, [](std::ptrdiff_t, std::size_t) { return 1.0; }).empty());
}

TEST_CASE("staged_model: a model on another device is not cut") {
  const gguf_file file{written(tiny_model{})};
  gguf_model model{file, arithmetic::stored, {}};
  const std::vector<std::int32_t> tokens = some_tokens(8);
  CHECK_THROWS_AS((staged_model{model, format_packer::with(nullptr), {.threads = 1, .gpu_layers = 1}, tokens}), uncut_error);
}

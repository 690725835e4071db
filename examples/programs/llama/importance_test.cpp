// Importance matrices: both formats, the bits that llama-quantize makes with them, and what is refused.
#include "importance.hpp"

#include <doctest/doctest.h>
#include <gguf.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <klens/io/scores_json.hpp>
#include <klens/weight_guard.hpp>

#include "format_packer.hpp"
#include "gguf_model.hpp"
#include "llama_test.hpp"
#include "staged_model.hpp"

using namespace llama_adapter;
using support::quoted;

namespace {

using sums_by_tensor = std::vector<std::pair<std::string, std::vector<float>>>;

std::vector<float> some_sums(std::size_t count, float wave) {
  std::vector<float> sums(count);
  for (std::size_t i = 0; i < count; ++i) sums[i] = 40 * (1.1f + std::sin(wave * static_cast<float>(i)));
  return sums;
}

const sums_by_tensor of_tiny{{"blk.0.attn_q.weight", some_sums(256, 0.3f)}, {"blk.1.ffn_down.weight", some_sums(96, 0.9f)}};

std::filesystem::path written_gguf(const sums_by_tensor& sums, float count, bool with_metadata = true) {
  const ggml_context_ptr memory{ggml_init({std::size_t{1} << 20, nullptr, false})};
  const gguf_context_ptr file{gguf_init_empty()};
  const char* const dataset = "a text";
  if (with_metadata) gguf_set_arr_str(file.get(), "imatrix.datasets", const_cast<const char**>(&dataset), 1);
  gguf_set_val_u32(file.get(), "imatrix.chunk_count", 2);
  gguf_set_val_u32(file.get(), "imatrix.chunk_size", 512);
  for (const auto& [name, values] : sums) {
    ggml_tensor* const all = ggml_new_tensor_2d(memory.get(), GGML_TYPE_F32, static_cast<std::int64_t>(values.size()), 1);
    ggml_tensor* const counts = ggml_new_tensor_2d(memory.get(), GGML_TYPE_F32, 1, 1);
    ggml_set_name(all, (name + ".in_sum2").c_str());
    ggml_set_name(counts, (name + ".counts").c_str());
    std::memcpy(all->data, values.data(), values.size() * sizeof(float));
    *static_cast<float*>(counts->data) = count;
    gguf_add_tensor(file.get(), all);
    gguf_add_tensor(file.get(), counts);
  }
  REQUIRE(gguf_write_to_file(file.get(), scratch("imatrix.gguf").c_str(), false));
  return scratch("imatrix.gguf");
}

template <class Number>
std::string bytes_of(Number number) {
  std::string bytes(sizeof number, '\0');
  std::memcpy(bytes.data(), &number, sizeof number);
  return bytes;
}

std::string older_content(const sums_by_tensor& sums, std::int32_t calls) {
  std::string content = bytes_of(static_cast<std::int32_t>(sums.size()));
  for (const auto& [name, values] : sums) {
    content += bytes_of(static_cast<std::int32_t>(name.size())) + name + bytes_of(calls);
    content += bytes_of(static_cast<std::int32_t>(values.size()));
    for (const float each : values) content += bytes_of(each);
  }
  return content;
}

std::filesystem::path written_older(const std::string& content) {
  std::ofstream{scratch("imatrix.dat"), std::ios::binary} << content;
  return scratch("imatrix.dat");
}

std::string refusal(const std::filesystem::path& path, const gguf_file& of) {
  try {
    (void)importance_matrix{path, of};
  } catch (const klens::file_error& caught) {
    return caught.what();
  }
  return {};
}

}  // namespace

TEST_CASE("importance_matrix: both formats hold what llama-quantize makes of them") {
  const gguf_file file{written(tiny_model{})};
  const importance_matrix gguf{written_gguf(of_tiny, 8), file}, older{written_older(older_content(of_tiny, 8)), file};
  for (const importance_matrix* each : {&gguf, &older}) {
    const std::span<const float> values = each->of("blk.1.ffn_down.weight");
    REQUIRE(values.size() == 96);
    CHECK(values[5] == of_tiny[1].second[5] / 8);
    CHECK(each->of("blk.0.attn_k.weight").empty());
  }
  CHECK(gguf.name() != older.name());
  const importance_matrix unused{written_gguf(of_tiny, 0), file};
  CHECK(unused.of("blk.0.attn_q.weight")[7] == 1);  // no token came by: all columns alike
}

TEST_CASE("importance_matrix: a candidate holds the bits that llama-quantize writes with it") {
  const gguf_file file{written(tiny_model{})};
  const importance_matrix importance{written_gguf(of_tiny, 8), file};
  gguf_model model{file, arithmetic::stored, {}};
  const std::vector<std::int32_t> tokens = some_tokens(8);
  const std::string name = "blk.0.attn_q.weight";
  for (const ggml_type type : {GGML_TYPE_Q4_0, GGML_TYPE_Q3_K, GGML_TYPE_IQ2_XXS, GGML_TYPE_IQ3_XXS, GGML_TYPE_IQ4_XS}) {
    CAPTURE(ggml_type_name(type));
    const std::span<const float> values = importance.of(name);
    const std::vector<llama_model_imatrix_data> given{{name.c_str(), values.data(), values.size()}, {nullptr, nullptr, 0}};
    const gguf_file made{quantized(file, {{name, type}}, given.data())};
    gguf_model shipped{made, arithmetic::floats, {}};
    std::vector<klens::layer> expected = shipped.layers();
    std::vector<paged_matrix> matrices = model.stored_matrices();
    const auto matrix = std::ranges::find(matrices, name, &paged_matrix::name);
    const format_packer packer{*matrix, ggml_format{type}, values};
    klens::matrix<float> kept(256, 256), own(1, 256);
    std::vector<std::byte> packed(ggml_row_size(type, 256));
    for (Eigen::Index r = 0; r < 256; ++r) {
      unpack_rows(matrix->file, 256, static_cast<std::size_t>(r), own);
      packer.pack({own.data(), 256}, static_cast<std::size_t>(r), packed);
      packer.unpack(packed, klens::row(kept, r));
    }
    CHECK(same_bits(named(expected, name).load(), kept));
  }
}

TEST_CASE("importance_matrix: each expert's rows are packed by its own importance") {
  std::vector<float> importance(64, 1.0f), row(32), first(32), second(32);
  for (std::size_t i = 32; i < 64; ++i) importance[i] = i < 40 ? 1000.0f : 0.001f;
  for (std::size_t i = 0; i < 32; ++i) row[i] = std::sin(0.7f * static_cast<float>(i));
  paged_matrix experts;
  experts.rows = 4;
  experts.rows_of_expert = 2;
  experts.columns = 32;
  const format_packer packer{experts, ggml_format{"q4_0"}, importance};
  std::vector<std::byte> packed(18);
  packer.pack(row, 1, packed);
  packer.unpack(packed, first);
  packer.pack(row, 2, packed);
  packer.unpack(packed, second);
  CHECK(first != second);
  std::vector<float> expected(32);
  ggml_format{"q4_0"}.pack(row, packed, std::span{importance}.subspan(32));
  ggml_format{"q4_0"}.unpack(packed, expected);
  CHECK(second == expected);
}

TEST_CASE("importance_matrix: of another model, cut short or no such file is refused, and said") {
  const gguf_file file{written(tiny_model{})};
  const std::string whole = older_content(of_tiny, 8);
  for (std::size_t kept = 0; kept < whole.size(); kept += 1 + kept / 3) {
    CAPTURE(kept);
    CHECK(holds(refusal(written_older(whole.substr(0, kept)), file), "is no importance matrix, or cut short"));
  }
  const std::string gguf = support::content_of(written_gguf(of_tiny, 8));
  for (const std::size_t kept : {std::size_t{5}, std::size_t{60}, gguf.size() / 2, gguf.size() - 40}) {
    CAPTURE(kept);
    CHECK(holds(refusal(written_older(gguf.substr(0, kept)), file), "is damaged or cut short"));
  }
  CHECK(holds(refusal(written_gguf(of_tiny, 8, false), file), "has no imatrix.datasets"));
  CHECK(holds(refusal(scratch("none.dat"), file), "there is no such file"));
  CHECK(holds(refusal(written_gguf({{"blk.7.attn_q.weight", some_sums(256, 1)}}, 8), file),
              "is of another model: it has 'blk.7.attn_q.weight', which model.gguf has not"));
  CHECK(holds(refusal(written_gguf({{"blk.0.attn_q.weight", some_sums(255, 1)}}, 8), file),
              "is of another model: it has 255 values for 'blk.0.attn_q.weight', which has 256 columns"));
  CHECK(holds(refusal(written_older(older_content({{"blk.0.attn_q.weight", std::vector<float>(256, NAN)}}, 1)), file),
              "has a negative or infinite number, or none, for 'blk.0.attn_q.weight'"));
}

TEST_CASE("klens-llama rank --imatrix: scores are for the bits made with it; tensors without data are said") {
  const std::filesystem::path path = written(tiny_model{}), imatrix = written_gguf(of_tiny, 8);
  const std::string common = "rank " + quoted(path) + " --metrics kl --chunks 6 --context 8 --tokens " +
                             quoted(written(some_tokens(48), "tokens.safetensors")) + " --output " +
                             quoted(scratch("scores.json"));
  const auto read = [] { return klens::read_scores(scratch("scores.json")).result; };
  const std::string two = " --types q4_0 --tensors 'blk.0.attn_[qk]'";
  REQUIRE(support::run_klens(common + two).exit_code == 0);
  const klens::scores without = read();
  const auto result = support::run_klens(common + two + " --imatrix " + quoted(imatrix));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(holds(result.output, "! quantized with the importance matrix imatrix.gguf ("));
  CHECK(holds(result.output, "without data in the importance matrix, and quantized without one: "));
  const klens::scores with = read();
  const auto kl = [](const klens::scores& of, const char* name) { return of.find(name, "q4_0")->metrics[0].mean; };
  CHECK(kl(with, "blk.0.attn_q.weight") != kl(without, "blk.0.attn_q.weight"));
  CHECK(kl(with, "blk.0.attn_k.weight") == kl(without, "blk.0.attn_k.weight"));

  const auto needy = support::run_klens(common + " --types iq2_xxs,q4_0 --tensors blk.0 --imatrix " + quoted(imatrix));
  REQUIRE_MESSAGE(needy.exit_code == 0, needy.errors);
  CHECK(holds(needy.output, "left out: blk.0.attn_k.weight: imatrix.gguf has no data for it, which iq2_xxs needs"));
  CHECK(read().candidates.size() == 2);  // the one tensor with data
  support::check_refused(support::run_klens(common + " --types iq2_xxs"),
                         "the type iq2_xxs needs an importance matrix; give one with --imatrix");
  support::check_refused(support::run_klens(common + two + " --imatrix " + quoted(path)), "it is no importance matrix");
}

// A GGUF header takes, for each entry, its key and text with 8 bytes of length each and 4 of type; a number takes 4.
TEST_CASE("importance_matrix: what llama-quantize will write of it into the header counts in a file's size") {
  gguf_file file{written(tiny_model{})};
  const std::uint64_t before = file.metadata_bytes();
  const importance_matrix older{
      written_older(older_content(of_tiny, 8) + bytes_of(std::int32_t{5}) + bytes_of(std::int32_t{4}) + "text"), file};
  older.announce_to(file);
  const auto text = [](std::string_view key, std::size_t length) { return 8 + key.size() + 4 + 8 + length; };
  const auto number = [](std::string_view key) { return 8 + key.size() + 4 + 4; };
  const std::size_t added = text("quantize.imatrix.file", std::min<std::size_t>(127, older.path().string().size())) +
                            text("quantize.imatrix.dataset", 4) + number("quantize.imatrix.entries_count") +
                            number("quantize.imatrix.chunks_count");
  const std::uint64_t after = file.metadata_bytes();
  CHECK(after % 32 == 0);
  CHECK(after > before + added - 32);  // headers are padded to 32 bytes
  CHECK(after < before + added + 32);
}

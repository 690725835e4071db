// Tables of KL by tensor and type, as the GGUF Tool Suite writes them.
#include "score_table.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>

#include "llama_test.hpp"

using namespace llama_adapter;
using support::quoted;

namespace {

const std::vector<std::string> two_tensors{"blk.0.attn_q.weight", "blk.0.ffn_down.weight"};

std::filesystem::path written_table(const std::string& content) {
  std::ofstream{scratch("table.csv")} << content;
  return scratch("table.csv");
}

klens::scores read(const std::string& content) {
  static const gguf_file file{written(tiny_model{}, "of-tables.gguf")};
  return read_score_table(written_table(content), file, two_tensors);
}

bool says(const klens::scores& scores, const std::string& part) {
  return std::ranges::any_of(scores.remarks, [&](const std::string& each) { return holds(each, part); });
}

}  // namespace

TEST_CASE("score_table: a cell is the KL of a tensor in a type, and is written again as it was read") {
  const std::string content = "QTYPE,blk.0.attn_q.weight,blk.0.ffn_down.weight\nq4_0,0.125,0.5\nq8_0,0.001,0.004\n";
  CHECK(is_score_table(written_table(content)));
  CHECK_FALSE(is_score_table(written_table("{\"version\": 1}")));
  const klens::scores scores = read(content);
  REQUIRE(scores.candidates.size() == 4);
  CHECK(scores.find("blk.0.ffn_down.weight", "q4_0")->metrics[0].mean == 0.5);
  CHECK(scores.find("blk.0.ffn_down.weight", "q4_0")->bytes == 256 * 3 * 18);
  CHECK(scores.remarks.empty());
  CHECK(score_table_text(scores) == content);
  const klens::scores others = read("QTYPE,blk.0.attn_q.weight,blk.0.ffn_down.weight\r\nQ4_K,+12.5%,3\r\n");
  CHECK(others.find("blk.0.attn_q.weight", "q4_k")->metrics[0].mean == 0.125);
}

TEST_CASE("score_table: what makes a table doubtful is said") {
  const std::string heading = "QTYPE,blk.0.attn_q.weight,blk.0.ffn_down.weight";
  CHECK(says(read(heading + "\nq4_0,0.1,0.15\n"), "q4_0: half of the tensors lie between 0.1 and twice that"));
  CHECK(says(read(heading + "\nq4_0,0.1,0.1\n"), "q4_0: 1 values are equal to another"));
  const klens::scores with_hole = read(heading + "\nq4_0,,0.15\nq8_0,0.1,nan\n");
  CHECK(says(with_hole,
             "cells without a number, whose damage is unknown: blk.0.attn_q.weight as q4_0, blk.0.ffn_down.weight as q8_0"));
  CHECK_FALSE(with_hole.find("blk.0.attn_q.weight", "q4_0")->says_damage());
  CHECK(score_table_text(with_hole) == heading + "\nq4_0,,0.15\nq8_0,0.1,\n");
  CHECK(says(read(heading + ",group0\nq4_0,0.1,0.5,0.3\n"), "all tensors together lose 0.3, one by one 0.6 in sum"));
  const klens::scores foreign = read(heading + ",blk.9.attn_q.weight\nq4_0,0.1,0.5,0.3\niq2_kt,1,2,3\n");
  CHECK(foreign.candidates.size() == 2);
  CHECK(says(foreign, "tensors of the table that the model has not, left out: blk.9.attn_q.weight"));
  CHECK(says(foreign, "types of the table that this ggml has not, left out: iq2_kt"));
  CHECK(says(read("QTYPE,blk.0.attn_q.weight\nq4_0,0.1\n"),
             "tensors without a column, which need --keep: blk.0.ffn_down.weight"));
}

TEST_CASE("score_table: what is no table of this model is refused") {
  CHECK_THROWS_WITH_AS((void)read("QTYPE,blk.9.attn_q.weight\nq4_0,0.1\n"),
                       doctest::Contains("has no tensor of of-tables.gguf"), klens::file_error);
  CHECK_THROWS_WITH_AS((void)read("QTYPE,blk.0.attn_q.weight\nq4_0,0.1,7\n"),
                       doctest::Contains("line 2 has 3 cells, the heading 2"), klens::file_error);
  CHECK_THROWS_WITH_AS((void)read("QTYPE,blk.0.attn_q.weight\niq2_kt,0.1\n"), doctest::Contains("has no type of this ggml"),
                       klens::file_error);
}

TEST_CASE("klens-llama: rank writes a table, and plan makes the same plan of it as of scores.json") {
  const std::filesystem::path path = written(tiny_model{}, "planned.gguf");
  const auto ranked =
      support::run_klens("rank " + quoted(path) + " --metrics kl --chunks 6 --context 8 --types q4_0,q8_0 --tokens " +
                         quoted(written(some_tokens(48), "tokens.safetensors")) + " --output " +
                         quoted(scratch("scores.json")) + " --table " + quoted(scratch("table.csv")));
  REQUIRE_MESSAGE(ranked.exit_code == 0, ranked.errors);
  const auto plan = [&](const std::string& scores, const std::string& types) {
    const auto result = support::run_klens("plan " + quoted(path) + " --bpw 6 --scores " + quoted(scratch(scores)) +
                                           " --output " + quoted(scratch(types)));
    REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
    return support::content_of(scratch(types));
  };
  CHECK(plan("table.csv", "by-table.txt") == plan("scores.json", "by-json.txt"));
}

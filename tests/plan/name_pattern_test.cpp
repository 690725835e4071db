#include <klens/plan/name_pattern.hpp>
// first: the header stands alone
#include <doctest/doctest.h>

#include <optional>
#include <regex>
#include <string>
#include <vector>

using klens::name_pattern;

namespace {

// What std::regex makes of it.
std::optional<std::string> plainly(const std::string& pattern, const std::string& name) {
  std::smatch match;
  if (!std::regex_search(name, match, std::regex{pattern})) return std::nullopt;
  std::string joined;
  for (std::size_t c = 1; c < match.size(); ++c) joined += match[c].str() + '\n';
  return joined;
}

const std::vector<std::string> names{"model.layers.0.self_attn.q_proj.weight",
                                     "model.layers.12.feed_forward.experts.7.gate_proj.weight",
                                     "model.layers.3.block_sparse_moe.input_linear.weight[11]",
                                     "model.layers.3.feed_forward.experts.gate_up_proj[2][up]",
                                     "backbone.layers.1.mixer.in_proj.weight[z]",
                                     "lm_head.weight",
                                     "blk.1.ffn_down.weight",
                                     "a-b c\td",
                                     "aaaa",
                                     "abcabcabd",
                                     "",
                                     "x]y{2}z"};

}  // namespace

TEST_CASE("name_pattern: finds and captures what std::regex does") {
  for (const std::string pattern : {R"(layers\.[0-7]\.)",
                                    R"(^(?!.*experts))",
                                    R"(^(.*\.)(?:experts\.\d+\.|experts\.\w+\[\d+\]))",
                                    R"((layers\.\d+)\.self_attn\.)",
                                    R"(^(.*\.)[qkv]_proj\.)",
                                    R"(^(.*\.)(?:gate|up)_proj\.)",
                                    R"(weight$)",
                                    R"(^lm_head|embed)",
                                    R"(.)",
                                    R"(^$)",
                                    R"()",
                                    R"((a|ab)(c|bcd)?)",
                                    R"((a+)(a*))",
                                    R"((a+?)(a*))",
                                    R"(a{2})",
                                    R"(a{2,3})",
                                    R"(^a{3,}$)",
                                    R"((?:ab?c?)+d)",
                                    R"((abc)\1)",
                                    R"(\bweight\b)",
                                    R"(\Bead)",
                                    R"([^.]+\.weight)",
                                    R"([a-c\-]+)",
                                    R"([\w.]+\[)",
                                    R"(\[(\d+)\])",
                                    R"(x(?=\]))",
                                    R"(\s\S)",
                                    R"(\x61\t?)",
                                    R"([\d_]+(?:proj|down))",
                                    R"((?:(?:a)))",
                                    R"(.*?\.(\w+)\.weight)",
                                    R"(\W)",
                                    R"([^\W_]+$)",
                                    R"((l)?(m)?_)",
                                    R"(\D+\d)",
                                    R"(\.)",
                                    R"(()|a)",
                                    R"((?:a*)*b)",
                                    R"(^(?:.*\.)?layers\.(\d+)\.(?!mixer)(\w+))"})
    for (const std::string& name : names) {
      INFO(pattern << " in '" << name << "'");
      CHECK(name_pattern{pattern}.captures(name) == plainly(pattern, name));
    }
}

TEST_CASE("name_pattern: what is no pattern is refused") {
  for (const std::string pattern :
       {"(",       ")",  "a)",  "(a",      "[",       "[a",    "*",           "+a",  "a**",     "a{2", "a{3,2}",
        "a{1001}", "\\", "\\1", "(?<x>a)", "(?<=a)b", "[b-a]", "[[:alpha:]]", "\\q", "\\u0061", "^*"})
    CHECK_THROWS_WITH_AS(name_pattern{pattern}, doctest::Contains("is not a regular expression"), klens::argument_error);
  CHECK_THROWS_AS(name_pattern{std::string(100000, '(')}, klens::argument_error);
  CHECK_THROWS_AS(name_pattern{"((((a{1000}){1000}){1000}){1000})"}, klens::argument_error);
}

TEST_CASE("name_pattern: names of any bytes, and patterns that would take for ever") {
  CHECK(name_pattern{"caf.+"}.matches("caf\xc3\xa9"));
  CHECK(name_pattern{"^[^a]+$"}.matches("\xff\x80\x01"));
  name_pattern nested{"^(?:a+)+$"};
  CHECK(nested.matches(std::string(4096, 'a')));
  CHECK_THROWS_WITH_AS((void)nested.matches(std::string(4000, 'a') + "b"), doctest::Contains("takes too long"),
                       klens::argument_error);
  CHECK_THROWS_WITH_AS((void)nested.matches(std::string(4097, 'a')), doctest::Contains("4097 characters"),
                       klens::argument_error);
}

TEST_CASE("name_pattern: remembers whether it was found") {
  name_pattern pattern{"mlp"};
  CHECK_THROWS_WITH_AS(pattern.expect_matched(), "plan: 'mlp' matches no layer; compare it with their names",
                       klens::argument_error);
  CHECK(!pattern.matches("lm_head"));
  CHECK(pattern.matches("layers.0.mlp.up"));
  pattern.expect_matched();
}

#include "token_file.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <klens/error.hpp>
#include <klens/io/safetensors.hpp>
#include <string_view>
#include <vector>

namespace programs {
namespace {

// What a tokenizer writes beside its tokens and no model here reads.
constexpr std::array harmless{
    "length", "num_tokens", "offset_mapping", "overflow_to_sample_mapping", "special_tokens_mask", "token_type_ids"};

class token_file {
 public:
  explicit token_file(const std::filesystem::path& path) : file_{path} {
    const klens::stored_tensor& ids = file_.at("input_ids");
    if (ids.shape.size() != 1 && ids.shape.size() != 2)
      refuse("input_ids has shape " + klens::shape_text(ids.shape) + "; klens wants [n] or [batch, length]");
    row_length = ids.shape.back();
    rows = ids.shape.size() == 2 ? ids.shape[0] : 1;
    in_rows = ids.shape.size() == 2;
    expect_known_tensors();
    input_ids = file_.integers("input_ids");
    mask_ = read_beside("attention_mask");
    labels_ = read_beside("labels");
    position_ids_ = read_beside("position_ids");
  }

  std::size_t rows = 0, row_length = 0;
  bool in_rows = false;
  std::vector<std::int64_t> input_ids;

  [[noreturn]] void refuse(const std::string& problem) const {
    throw klens::file_error{file_.path().string() + ": " + problem};
  }

  // Tokens first .. first + length of the file: all of one row.
  [[nodiscard]] token_set sequence(std::size_t first, std::size_t length, std::size_t vocabulary) const {
    token_set one{{}, 1, length};
    const auto [begin, end] = without_padding(first, length);
    one.in_file.push_back(begin);
    for (std::size_t at = begin; at < end; ++at) {
      if (input_ids[at] < 0 || static_cast<std::uint64_t>(input_ids[at]) >= vocabulary)
        refuse("input_ids[" + std::to_string(at) + "] is " + std::to_string(input_ids[at]) +
               ", outside the model's vocabulary of " + std::to_string(vocabulary) +
               "; were these tokens made with this model's tokenizer?");
      expect_position_after_last(at, begin);
      one.tokens.push_back(static_cast<std::int32_t>(input_ids[at]));
      if (masked()) one.roles.push_back(role_of(at));
    }
    one.tokens.resize(length, 0);  // any token will do as padding: nothing real comes after it
    if (masked()) one.roles.resize(length, token_role::padding);
    return one;
  }

 private:
  [[nodiscard]] bool masked() const noexcept { return !mask_.empty() || !labels_.empty(); }

  // What stands beside the tokens in floats was computed from them (logits, hidden states), but for masks and embeddings.
  static bool may_be_input(const klens::stored_tensor& of) {
    const bool floats = of.dtype.starts_with("F") || of.dtype.starts_with("BF");
    return !floats || of.name.find("mask") != std::string::npos || of.name.find("embeds") != std::string::npos;
  }

  void expect_known_tensors() const {
    constexpr std::array known{"input_ids", "attention_mask", "labels", "position_ids"};
    for (const klens::stored_tensor& each : file_.tensors())
      if (std::ranges::find(known, each.name) == known.end() && std::ranges::find(harmless, each.name) == harmless.end() &&
          may_be_input(each))
        refuse("has a tensor '" + each.name +
               "', which klens does not carry out; it reads input_ids, attention_mask, labels and position_ids. Leave it out "
               "if it does not matter");
  }

  [[nodiscard]] std::vector<std::int64_t> read_beside(const char* name) const {
    if (!file_.contains(name)) return {};
    const klens::stored_tensor& tensor = file_.at(name);
    if (tensor.shape != file_.at("input_ids").shape)
      refuse(std::string{name} + " has shape " + klens::shape_text(tensor.shape) + ", input_ids " +
             klens::shape_text(file_.at("input_ids").shape) + "; they must be the same");
    if (tensor.dtype != "BOOL" && tensor.dtype != "U8") return file_.integers(name);
    std::vector<std::int64_t> values;
    for (const std::byte each : tensor.bytes) values.push_back(std::to_integer<std::int64_t>(each));
    return values;
  }

  // The tokens of a sequence that are no padding: first and one past the last.
  [[nodiscard]] std::pair<std::size_t, std::size_t> without_padding(std::size_t first, std::size_t length) const {
    if (mask_.empty()) return {first, first + length};
    for (std::size_t at = first; at < first + length; ++at)
      if (mask_[at] != 0 && mask_[at] != 1)
        refuse("attention_mask[" + std::to_string(at) + "] is " + std::to_string(mask_[at]) +
               "; klens knows 0 (padding) and 1, and no packed rows: write each document as a row of its own");
    std::size_t begin = first, end = first + length;
    while (begin < end && mask_[begin] == 0) ++begin;
    while (end > begin && mask_[end - 1] == 0) --end;
    const auto from = mask_.begin() + static_cast<std::ptrdiff_t>(begin), to = mask_.begin() + static_cast<std::ptrdiff_t>(end);
    if (const auto hole = std::find(from, to, 0); hole != to)
      refuse("attention_mask[" + std::to_string(hole - mask_.begin()) +
             "] is 0 between tokens that are not masked; klens knows padding at the ends of a row only");
    return {begin, end};
  }

  void expect_position_after_last(std::size_t at, std::size_t begin) const {
    if (position_ids_.empty() || at == begin || position_ids_[at] == position_ids_[at - 1] + 1) return;
    refuse("position_ids[" + std::to_string(at) + "] is " + std::to_string(position_ids_[at]) + " after " +
           std::to_string(position_ids_[at - 1]) +
           ": klens does not read packed rows; write each document as a row of its own, padded at its end, with an "
           "attention_mask");
  }

  [[nodiscard]] token_role role_of(std::size_t at) const {
    constexpr std::int64_t not_asked = -100;  // as PyTorch's cross_entropy ignores it
    if (labels_.empty() || labels_[at] == input_ids[at]) return token_role::text;
    if (labels_[at] == not_asked) return token_role::context;
    refuse("labels[" + std::to_string(at) + "] is " + std::to_string(labels_[at]) + " where input_ids has " +
           std::to_string(input_ids[at]) +
           "; klens knows -100 (not asked for) and the token itself. Labels are not shifted: the model predicts labels[i] "
           "from the tokens before it");
  }

  klens::safetensors file_;
  std::vector<std::int64_t> mask_, labels_, position_ids_;
};

}  // namespace

token_set read_tokens(const token_choice& choice, std::size_t vocabulary, std::size_t default_length,
                      std::size_t default_sequences) {
  const token_file file{choice.file};
  const std::size_t available = file.rows * file.row_length;
  if (available <= choice.first)
    file.refuse("input_ids has " + std::to_string(available) + " tokens, none after the first " + std::to_string(choice.first));

  token_set set;
  set.length = choice.length.value_or(file.in_rows ? file.row_length : default_length);
  if (set.length == 0) set.length = choice.length ? 0 : available - choice.first;
  if (set.length == 0) file.refuse("--length 0: a sequence needs at least one token");
  const std::size_t most = choice.sequences.value_or(default_sequences);
  if (most == 0) file.refuse("--sequences 0: there is nothing to measure on");
  for (std::size_t r = 0; r < file.rows; ++r) {
    const std::size_t end = (r + 1) * file.row_length;
    for (std::size_t at = std::max(r * file.row_length, choice.first);
         end - std::min(at, end) >= set.length && set.sequences < most; at += set.length)
      set.take_sequence(file.sequence(at, set.length, vocabulary), 0);
  }
  if (std::ranges::count(set.roles, token_role::text) == std::ranges::ssize(set.roles)) set.roles.clear();  // a mask of ones
  const std::size_t wanted = choice.sequences.value_or(1);
  if (set.sequences < wanted)
    file.refuse("holds " + std::to_string(set.sequences) + " sequences of " + std::to_string(set.length) +
                " tokens after the first " + std::to_string(choice.first) + ", not " + std::to_string(wanted) +
                "; choose a smaller --length, --sequences or --first");
  return set;
}

void expect_next_tokens(const token_set& tokens) {
  if (tokens.length < 2) throw klens::argument_error{"--length 1: no token has a next one to predict; use 2 or more"};
  for (std::size_t at = 0; at < tokens.tokens.size(); ++at)
    if (tokens.has_next(at)) return;
  throw klens::argument_error{"attention_mask and labels leave no token to predict; perplexity needs one"};
}

std::string size_text(const token_set& tokens) {
  if (!tokens.content.empty()) return std::to_string(tokens.sequences) + " images";
  std::string text = std::to_string(tokens.sequences) + " sequences of " + std::to_string(tokens.length) + " tokens";
  const auto padding = std::ranges::count(tokens.roles, token_role::padding);
  const auto context = std::ranges::count(tokens.roles, token_role::context);
  if (padding > 0) text += ", " + std::to_string(padding) + " of them padding";
  if (context > 0) text += ", " + std::to_string(context) + " not asked for (labels of -100)";
  return text;
}

}  // namespace programs

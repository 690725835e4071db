#include "config.hpp"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <klens/error.hpp>
#include <limits>
#include <utility>

#include "known_fields.hpp"

namespace programs {
namespace {

/// Puts quotes around bare Infinity, -Infinity and NaN.
std::string strict_json(std::string_view loose) {
  std::string strict;
  strict.reserve(loose.size() + 16);
  bool in_text = false;
  for (std::size_t i = 0; i < loose.size(); ++i) {
    if (in_text && loose[i] == '\\' && i + 1 < loose.size())
      strict += loose[i++];
    else if (loose[i] == '"')
      in_text = !in_text;
    else if (!in_text) {
      for (const std::string_view word : {"-Infinity", "Infinity", "NaN"}) {
        if (!loose.substr(i).starts_with(word)) continue;
        strict += '"';
        strict += word;
        strict += '"';
        i += word.size();
        break;
      }
      if (i == loose.size()) break;
    }
    strict += loose[i];
  }
  return strict;
}

/// A regular file's text.
std::string text_of(const std::filesystem::path& file) {
  constexpr std::uintmax_t longest = 64'000'000;
  const auto refuse = [&](const std::string& problem) { throw klens::file_error(file.string() + ": " + problem); };
  std::error_code problem;
  const std::filesystem::file_status known = std::filesystem::status(file, problem);
  if (std::filesystem::is_directory(known)) refuse("is a folder; name a file");
  if (std::filesystem::exists(known) && !std::filesystem::is_regular_file(known))  // a pipe would wait for a writer
    refuse("is not a regular file; name a file");
  errno = 0;
  std::ifstream from(file, std::ios::binary);
  if (!from) refuse(std::string("cannot be read (") + std::strerror(errno) + "); check the path and its permissions");
  const std::uintmax_t size = std::filesystem::file_size(file, problem);
  if (size == 0) refuse("is empty; fetch it again");
  if (problem || size > longest) refuse("is longer than 64 MB; name the right file");
  std::string text(size, '\0');
  from.read(text.data(), static_cast<std::streamsize>(size));
  text.resize(static_cast<std::size_t>(from.gcount()));
  return text;
}

}  // namespace

nlohmann::json read_json(const std::filesystem::path& file) {
  constexpr int deepest = 32;
  const std::string text = text_of(file);
  const auto shallow = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > deepest) throw klens::file_error(file.string() + ": is nested too deeply; fetch it again");
    return true;
  };
  try {
    return nlohmann::json::parse(strict_json(text), shallow);
  } catch (const nlohmann::json::parse_error& problem) {
    throw klens::file_error(file.string() + ": is no JSON from byte " + std::to_string(problem.byte) +
                            " on; repair or fetch it again");
  } catch (const nlohmann::json::out_of_range&) {
    throw klens::file_error(file.string() + ": holds a number beyond 1.8e308; repair or fetch it again");
  }
}

config::config(const std::filesystem::path& file)
    : config(file.string(), "", read_json(file), std::make_shared<std::vector<std::string>>()) {}

config::config(std::string where, std::string prefix, nlohmann::json fields, std::shared_ptr<std::vector<std::string>> unknown)
    : where_(std::move(where)), prefix_(std::move(prefix)), fields_(std::move(fields)), unknown_(std::move(unknown)) {
  if (!fields_.is_object())
    throw klens::file_error(where_ + ": " + prefix_ + " is no JSON object; repair or fetch the file again");
}

const nlohmann::json* config::find(std::string_view field) const {
  known_.emplace(field);
  const auto at = fields_.find(field);
  return at == fields_.end() || at->is_null() ? nullptr : &*at;
}

bool config::has(std::string_view field) const { return find(field) != nullptr; }

std::optional<std::int64_t> config::whole_number(std::string_view field) const {
  const nlohmann::json* const value = find(field);
  if (value == nullptr || !value->is_number_integer()) return std::nullopt;
  return value->get<std::int64_t>();
}

bool config::is_null(std::string_view field) const {
  const auto at = fields_.find(field);
  return at != fields_.end() && at->is_null();
}

bool config::is_text(std::string_view field, std::string_view text) const {
  const nlohmann::json* const value = find(field);
  return value != nullptr && value->is_string() && value->get_ref<const std::string&>() == text;
}

void config::refuse(std::string_view field, const std::string& problem) const {
  throw klens::file_error(where_ + ": field " + klens::detail::name_text(prefix_ + std::string(field)) + " " + problem);
}

std::size_t config::count(std::string_view field) const {
  if (!has(field)) refuse(field, "is missing; add it");
  return count(field, 1);
}

std::size_t config::count(std::string_view field, std::size_t fallback) const {
  const std::size_t value = count_or_zero(field, fallback);
  if (value == 0) refuse(field, "is 0; it must be at least 1");
  return value;
}

std::size_t config::count_or_zero(std::string_view field, std::size_t fallback) const {
  const nlohmann::json* const value = find(field);
  if (value == nullptr) return fallback;
  const double number = as_number(field, *value);
  if (!(number >= 0 && number <= std::numeric_limits<std::int32_t>::max() && number == std::floor(number)))
    refuse(field, "is no count from 0 to 2147483647");
  return static_cast<std::size_t>(number);
}

double config::as_number(std::string_view field, const nlohmann::json& value) const {
  if (value.is_number()) return value.get<double>();
  const nlohmann::json* word = &value;
  if (value.is_object() && value.size() == 1 && value.contains("__float__")) word = &value["__float__"];
  if (*word == "Infinity") return std::numeric_limits<double>::infinity();
  if (*word == "-Infinity") return -std::numeric_limits<double>::infinity();
  if (*word == "NaN") return std::numeric_limits<double>::quiet_NaN();
  refuse(field, "is no number");
}

double config::number(std::string_view field, double fallback) const {
  const nlohmann::json* const value = find(field);
  return value == nullptr ? fallback : as_number(field, *value);
}

bool config::flag(std::string_view field, bool fallback) const {
  const nlohmann::json* const value = find(field);
  if (value != nullptr && !value->is_boolean()) refuse(field, "is neither true nor false");
  return value == nullptr ? fallback : value->get<bool>();
}

std::string config::text(std::string_view field, std::string_view fallback) const {
  const nlohmann::json* const value = find(field);
  if (value != nullptr && !value->is_string()) refuse(field, "is no text");
  return value == nullptr ? std::string(fallback) : value->get<std::string>();
}

std::vector<double> config::numbers(std::string_view field, std::vector<double> fallback) const {
  const nlohmann::json* const value = find(field);
  if (value == nullptr) return fallback;
  if (!value->is_array()) refuse(field, "is no list of numbers");
  std::vector<double> all;
  for (const nlohmann::json& each : *value) all.push_back(as_number(field, each));
  return all;
}

std::vector<std::vector<double>> config::lists(std::string_view field) const {
  const nlohmann::json* const value = find(field);
  std::vector<std::vector<double>> all;
  if (value == nullptr) return all;
  if (!value->is_array()) refuse(field, "is no list of lists of numbers");
  for (const nlohmann::json& list : *value) {
    if (!list.is_array()) refuse(field, "is no list of lists of numbers");
    all.emplace_back();
    for (const nlohmann::json& each : list) all.back().push_back(as_number(field, each));
  }
  return all;
}

std::vector<std::string> config::texts(std::string_view field) const {
  const nlohmann::json* const value = find(field);
  if (value == nullptr) return {};
  std::vector<std::string> all;
  if (!value->is_array()) refuse(field, "is no list of texts");
  for (const nlohmann::json& each : *value) {
    if (!each.is_string()) refuse(field, "is no list of texts");
    all.push_back(each.get<std::string>());
  }
  return all;
}

config config::object(std::string_view field) const {
  const nlohmann::json* const value = find(field);
  if (value == nullptr || !value->is_object()) refuse(field, "is no object");
  return {where_, prefix_ + std::string(field) + ".", *value, unknown_};
}

config config::inner_model(std::string_view field) const {
  config inner = object(field);
  constexpr const char* tied = "tie_word_embeddings";
  if (!inner.has(tied) && has(tied)) inner.fields_[tied] = fields_[tied];
  return inner;
}

std::vector<std::string> config::objects() const {
  std::vector<std::string> all;
  for (const auto& [field, value] : fields_.items())
    if (value.is_object() && field.ends_with("_config")) all.push_back(field);
  return all;
}

bool config::is_empty(std::string_view field) const {
  const nlohmann::json* const value = find(field);
  return value != nullptr && value->is_object() && value->empty();
}

config config::empty_object(std::string_view field) const {
  return {where_, prefix_ + std::string(field) + ".", nlohmann::json::object(), unknown_};
}

void config::ignore(std::initializer_list<std::string_view> fields) const { known_.insert(fields.begin(), fields.end()); }

void config::require(std::string_view field, const nlohmann::json& value) const {
  const nlohmann::json* const found = find(field);
  if (found != nullptr && *found != value)
    refuse(field, "is " + klens::detail::name_text(found->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)) +
                      "; klens carries out " + value.dump() + " only");
}

void config::settle_rest() const {
  for (const auto& [field, value] : fields_.items()) {
    if (value.is_null() || known_.contains(field)) continue;
    const field_kind kind = kind_of_field(field, value);
    if (kind == field_kind::refused)
      refuse(field, "is " + klens::detail::name_text(value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)) +
                        ", which changes the result and is not carried out for this model type");
    if (kind == field_kind::unknown) unknown_->push_back(prefix_ + field);
  }
}

}  // namespace programs

#pragma once

#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace programs {

/// JSON as people publish it: a bare Infinity, -Infinity or NaN is read as the text of that name.
/// Throws klens::file_error, starting with the path, for what is no JSON or nested deeper than any config.
[[nodiscard]] nlohmann::json read_json(const std::filesystem::path& file);

/// A model's config.json (or an object within it). It remembers which fields were asked for, so that `settle_rest` can judge all
/// others: none is ignored in silence.
/// Throws     klens::file_error, "path: field 'name' ...", for a missing field, a wrong type, a value that is not carried out.
class config {
 public:
  explicit config(const std::filesystem::path& file);

  /// True where the field is there and not null.
  [[nodiscard]] bool has(std::string_view field) const;
  /// A whole number that is there; none where the field is missing or anything else.
  [[nodiscard]] std::optional<std::int64_t> whole_number(std::string_view field) const;
  /// True where the field is there and null, which some fields take for another value than a missing one.
  [[nodiscard]] bool is_null(std::string_view field) const;
  [[nodiscard]] bool is_text(std::string_view field, std::string_view text) const;

  /// A count from 1 to 2^31-1; the fallback stands for a missing or null field.
  [[nodiscard]] std::size_t count(std::string_view field) const;
  [[nodiscard]] std::size_t count(std::string_view field, std::size_t fallback) const;
  /// The same, and 0.
  [[nodiscard]] std::size_t count_or_zero(std::string_view field, std::size_t fallback) const;

  [[nodiscard]] double number(std::string_view field, double fallback) const;
  [[nodiscard]] bool flag(std::string_view field, bool fallback) const;
  [[nodiscard]] std::string text(std::string_view field, std::string_view fallback) const;
  [[nodiscard]] std::vector<double> numbers(std::string_view field, std::vector<double> fallback) const;
  [[nodiscard]] std::vector<std::vector<double>> lists(std::string_view field) const;  ///< of numbers
  [[nodiscard]] std::vector<std::string> texts(std::string_view field) const;          ///< empty where it is missing

  /// True for an object without fields.
  [[nodiscard]] bool is_empty(std::string_view field) const;
  /// An object in this one, e.g. rope_parameters; messages name it as "outer.inner".
  [[nodiscard]] config object(std::string_view field) const;
  /// An object that describes a model of its own; what it does not say of tied embeddings, this one does.
  [[nodiscard]] config inner_model(std::string_view field) const;
  /// Names of the fields that are objects and describe a part of a larger model: "vision_config".
  [[nodiscard]] std::vector<std::string> objects() const;
  /// Stands for an object that is not there.
  [[nodiscard]] config empty_object(std::string_view field) const;

  /// Fields that change no logit of a forward pass.
  void ignore(std::initializer_list<std::string_view> fields) const;
  /// Fields that klens carries out with one value only, which `klens` must find where the field is there and not null.
  void require(std::string_view field, const nlohmann::json& value) const;
  /// Judges each field that was neither asked for nor ignored (known_fields.hpp): one that changes the result is refused, one
  /// that klens does not know is added to `unknown`. Null stands for a missing field.
  void settle_rest() const;
  /// Names of the unknown fields so far, those of objects within as "outer.inner".
  [[nodiscard]] const std::vector<std::string>& unknown() const noexcept { return *unknown_; }

  [[noreturn]] void refuse(std::string_view field, const std::string& problem) const;

 private:
  config(std::string where, std::string prefix, nlohmann::json fields, std::shared_ptr<std::vector<std::string>> unknown);
  [[nodiscard]] const nlohmann::json* find(std::string_view field) const;
  [[nodiscard]] double as_number(std::string_view field, const nlohmann::json& value) const;

  std::string where_;   // the file
  std::string prefix_;  // "rope_parameters." within an object
  nlohmann::json fields_;
  mutable std::set<std::string, std::less<>> known_;
  std::shared_ptr<std::vector<std::string>> unknown_;  // one list for the file
};

}  // namespace programs

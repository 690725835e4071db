#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

// What happens to a field of a config that the model type does not read itself. There are three kinds; the lists are in
// known_fields.cpp, and this is how they are kept:
//   passed_over   says how the file came about, how a model was trained, how text is generated or how a library runs it: every
//                 config of transformers may have it (its base class, generation and tokenizer settings), and so may names
//                 with a leading underscore. A field belongs here if transformers has it for every model type or if its
//                 documentation says that it changes no logit of a plain forward.
//   refused       is known to change the result in some model type. Its harmless values ("off") pass; any other is refused by
//                 name, since the model type does not carry it out. A field belongs here as soon as somebody meets it.
//   unknown       is anything else: named in one remark, or refused under --strict.

namespace programs {

enum class field_kind { passed_over, refused, unknown };

/// The kind of a field with this value. A list has a harmless value where each of its elements is one.
[[nodiscard]] field_kind kind_of_field(std::string_view name, const nlohmann::json& value);

}  // namespace programs

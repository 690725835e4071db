#pragma once

#include <filesystem>

#include "token_set.hpp"

namespace programs {

/// Says on stderr where sequences are longer than the max_position_embeddings of the model in that folder.
void remark_on_length(const std::filesystem::path& model, const token_set& tokens);

}  // namespace programs

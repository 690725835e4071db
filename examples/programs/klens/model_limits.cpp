#include "model_limits.hpp"

#include <cstdio>

#include "engine/config.hpp"

namespace programs {

void remark_on_length(const std::filesystem::path& model, const token_set& tokens) {
  constexpr const char* field = "max_position_embeddings";
  const config fields{model / "config.json"};
  if (!fields.has(field) || tokens.length <= fields.count(field)) return;
  std::fprintf(stderr,
               "klens: sequences of %zu tokens are longer than this model's %s of %zu, for which it was made; use --length\n",
               tokens.length, field, fields.count(field));
}

}  // namespace programs

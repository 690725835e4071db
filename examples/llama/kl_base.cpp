#include "kl_base.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <klens/io/atomic_file.hpp>
#include <span>
#include <vector>

namespace llama_adapter {
namespace {

constexpr std::size_t floats_in_front = 2, codes_in_front = 4;  // scale and smallest log-probability, as long as four codes
constexpr float deepest = 16;                                   // below the largest logit
constexpr float steps = 65535;

void encode(std::span<const float> row, std::span<std::uint16_t> into) {
  const auto [lowest, highest] = std::ranges::minmax(row);
  const float least = std::max(lowest, highest - deepest);
  double sum = 0;
  for (const float each : row) sum += std::exp(static_cast<double>(each) - highest);
  const auto log_sum = static_cast<float>(std::log(sum));
  const float scale = (highest - least) / steps;
  const float front[floats_in_front] = {scale, least - highest - log_sum};
  std::memcpy(into.data(), front, sizeof front);
  for (std::size_t i = 0; i < row.size(); ++i)
    into[codes_in_front + i] =
        scale > 0 && row[i] > least ? static_cast<std::uint16_t>(std::lround((row[i] - least) / scale)) : std::uint16_t{0};
}

}  // namespace

void write_kl_base(const std::filesystem::path& path, const hybrid::token_set& tokens, std::size_t vocabulary,
                   const std::function<klens::matrix<float>(std::size_t)>& logits) {
  klens::atomic_file file{path};
  const auto write = [&](const auto& values) { file.write(std::as_bytes(std::span(values))); };
  file.write("_logits_");
  const std::uint32_t head[3] = {static_cast<std::uint32_t>(tokens.length), static_cast<std::uint32_t>(vocabulary),
                                 static_cast<std::uint32_t>(tokens.sequences)};
  write(head);
  write(tokens.tokens);
  const kl_base_rows rows{tokens.length};
  std::vector<std::uint16_t> codes((vocabulary + 1) / 2 * 2 + codes_in_front);
  for (std::size_t s = 0; s < tokens.sequences; ++s) {
    const klens::matrix<float> all = logits(s);
    for (std::size_t r = rows.first; r < rows.first + rows.count; ++r) {
      encode(klens::row(all, static_cast<Eigen::Index>(r)), codes);
      write(codes);
    }
  }
  file.commit();
}

}  // namespace llama_adapter

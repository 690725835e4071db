#include "kl_base.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llama_adapter {
namespace {

constexpr std::size_t floats_in_front = 2, codes_in_front = 4;  // scale and smallest log-probability, as long as four codes
constexpr std::string_view magic_text = "_logits_";
constexpr float deepest = 16;  // below the largest logit
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

void decode(std::span<const std::uint16_t> codes, std::span<float> row) {
  float front[floats_in_front];
  std::memcpy(front, codes.data(), sizeof front);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = front[0] * static_cast<float>(codes[codes_in_front + i]) + front[1];
}

std::size_t codes_of(std::size_t vocabulary) { return (vocabulary + 1) / 2 * 2 + codes_in_front; }

}  // namespace

kl_base::kl_base(std::filesystem::path path) : path_{std::move(path)}, stream_{path_, std::ios::binary} {
  const auto refuse = [&](const std::string& problem) { throw klens::file_error{path_.string() + ": " + problem}; };
  char magic[magic_text.size()] = {};
  std::uint32_t head[3] = {};
  stream_.read(magic, sizeof magic);
  stream_.read(reinterpret_cast<char*>(head), sizeof head);
  if (!stream_ || std::string_view{magic, sizeof magic} != magic_text)
    refuse("is no base file of llama-perplexity --kl-divergence-base");
  const auto [length, vocabulary, sequences] = std::to_array(head);
  constexpr std::uint32_t most = 1u << 24;  // of each: products below then fit 128 bits, and no real file comes near
  if (length < 3 || vocabulary == 0 || sequences == 0 || length > most || vocabulary > most || sequences > most)
    refuse("has " + std::to_string(sequences) + " sequences of " + std::to_string(length) + " tokens out of " +
           std::to_string(vocabulary) + "; that is damaged");
  const kl_base_rows rows{length};
  const auto expected = sizeof magic + sizeof head +
                        static_cast<unsigned __int128>(sequences) *
                            (4 * length + static_cast<unsigned __int128>(rows.count) * codes_of(vocabulary) * 2);
  if (std::filesystem::file_size(path_) != expected) refuse("is cut short or damaged; make it again");
  vocabulary_ = vocabulary;
  tokens_.length = length;
  tokens_.sequences = sequences;
  tokens_.tokens.resize(std::size_t{length} * sequences);
  stream_.read(reinterpret_cast<char*>(tokens_.tokens.data()), static_cast<std::streamsize>(tokens_.tokens.size() * 4));
  for (const std::int32_t each : tokens_.tokens)
    if (each < 0 || static_cast<std::uint32_t>(each) >= vocabulary)
      refuse("holds token " + std::to_string(each) + " outside its vocabulary of " + std::to_string(vocabulary));
}

klens::matrix<float> kl_base::logits(std::size_t first_sequence, std::size_t count) {
  std::vector<std::uint16_t> codes(codes_of(vocabulary_));
  const std::size_t bytes = codes.size() * 2, before = magic_text.size() + 12 + 4 * tokens_.tokens.size();
  klens::matrix<float> all(count * rows().count, vocabulary_);
  stream_.seekg(static_cast<std::streamoff>(before + first_sequence * rows().count * bytes));
  for (Eigen::Index r = 0; r < all.rows(); ++r) {
    stream_.read(reinterpret_cast<char*>(codes.data()), static_cast<std::streamsize>(bytes));
    decode(codes, klens::row(all, r));
  }
  if (!stream_) throw klens::file_error{path_.string() + ": cannot be read"};
  return all;
}

void write_kl_base(const std::filesystem::path& path, const programs::token_set& tokens, std::size_t vocabulary,
                   const std::function<klens::matrix<float>(std::size_t)>& logits) {
  klens::atomic_file file{path};
  const auto write = [&](const auto& values) { file.write(std::as_bytes(std::span(values))); };
  file.write(magic_text);
  const std::uint32_t head[3] = {static_cast<std::uint32_t>(tokens.length), static_cast<std::uint32_t>(vocabulary),
                                 static_cast<std::uint32_t>(tokens.sequences)};
  write(head);
  write(tokens.tokens);
  const kl_base_rows rows{tokens.length};
  std::vector<std::uint16_t> codes(codes_of(vocabulary));
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

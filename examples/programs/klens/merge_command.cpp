#include <cstdio>
#include <klens/io/scores_json.hpp>
#include <klens/rank/merge.hpp>
#include <string>
#include <vector>

#include "commands.hpp"
#include "rank_report.hpp"

namespace programs {

void merge(const std::vector<std::filesystem::path>& parts, const std::filesystem::path& output, const std::string& sort) {
  if (!output.empty()) klens::atomic_file{output};
  klens::scores_file all = klens::read_scores(parts.front());
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const klens::scores_file next = klens::read_scores(parts[i]);
    const auto refuse = [&](const std::string& problem) { throw klens::file_error{parts[i].string() + ": " + problem}; };
    if (next.origin.model_fingerprint != all.origin.model_fingerprint)
      refuse("is of another model than " + parts.front().string());
    if (next.origin.length != all.origin.length) refuse("has sequences of another length than " + parts.front().string());
    // Parts of one file must follow each other; of two files nobody knows, and the fingerprints tell only that they are not the
    // same.
    const bool same_file = next.origin.tokens_file == all.origin.tokens_file;
    if (same_file && next.origin.first < all.origin.first + all.result.positions)
      refuse("its tokens overlap with those before it, or stand before them; give the parts in order");
    if (next.origin.tokens_fingerprint == all.origin.tokens_fingerprint) refuse("rests on the same tokens as those before it");
    try {
      all.result = klens::merge(all.result, next.result);
    } catch (const klens::argument_error& caught) {
      refuse(caught.what());
    }
    all.origin.tokens_fingerprint += "+" + next.origin.tokens_fingerprint;
    all.origin.sketch.insert(all.origin.sketch.end(), next.origin.sketch.begin(), next.origin.sketch.end());
    all.origin.peak_bytes = std::max(all.origin.peak_bytes, next.origin.peak_bytes);
  }
  all.origin.rank_by = sort;
  std::printf("%zu files: %zu candidates on %zu sequences of %llu tokens (%zu positions)\n", parts.size(),
              all.result.candidates.size(), all.result.sequences, static_cast<unsigned long long>(all.origin.length),
              all.result.positions);
  print_ranking(all.result, sort);
  if (!output.empty()) {
    klens::write_scores(output, all);
    std::printf("\nscores written to %s\n", output.c_str());
  }
}

}  // namespace programs

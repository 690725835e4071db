#pragma once

#include <klens/stats/interval.hpp>
#include <string>
#include <vector>

#include "validate_report.hpp"

namespace programs {

/// "0.550"; "-" for what is no number.
[[nodiscard]] std::string number_text(double value);
/// "0.500 .. 0.570"; "-" where there is no interval.
[[nodiscard]] std::string range_text(const klens::estimate& of);
[[nodiscard]] std::string scheme_text(const std::string& scheme);
/// What a group holds.
[[nodiscard]] std::string group_text(const study_group& group);
/// The paired test of kl against another metric, in words.
[[nodiscard]] std::string duel_text(const study& all, const study_group& group, const std::string& other);
/// Does kl order layers better than mse and sqnr do, scheme by scheme? One sentence each. Where delta_ce on the calibration tokens
/// does better than kl, the sentence says that, too.
[[nodiscard]] std::vector<std::string> verdict_texts(const study& all);
/// How many tokens an order takes, in sentences.
[[nodiscard]] std::vector<std::string> need_texts(const study& all, const token_need& need, const study_origin& origin);
/// What was compared with what.
[[nodiscard]] std::string headline(const study& all, const study_origin& origin);

}  // namespace programs

#pragma once

#include <concepts>
#include <cstddef>
#include <klens/stats/interval.hpp>
#include <span>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Where a candidate stands while a scan goes on. Only open ones are measured further.
enum class standing {
  open,
  above,    ///< settled: among the worst that were asked for
  below,    ///< settled: not among them
  ordered,  ///< settled: the order as a whole is sure enough
  stopped,  ///< not settled, but the budget is spent
};

[[nodiscard]] constexpr bool is_settled(standing at) noexcept { return at != standing::open && at != standing::stopped; }

/// What a stopping rule sees after a batch: the candidates of ONE scheme. A place is one among the layers under the same scheme
/// ("which layers are in the top half?"); among all candidates those of the coarsest would fill the top by themselves.
struct look {
  std::span<const sequence_sums> candidates = {};  ///< by the metric that ranks; the open ones have all seen the same sequences
  std::span<const standing> standings = {};        ///< before this look, one a candidate
  bool higher_is_worse = true;                     ///< the metric's direction; for the others a low mean counts as damage
  double confidence = 0.99;                        ///< over all looks together
  std::size_t sequences = 0;                       ///< seen by the open candidates
  std::size_t sequences_before = 0;                ///< the same at the look before; 0 at the first
  std::size_t sequences_in_all = 0;                ///< in the calibration set; 0 where nobody knows
  double forwards = 0;                             ///< spent by the whole scan until now
  double seconds = 0;
};

/// What the damages of the candidates of one scheme may be, higher being worse: joint draws, [draw][candidate], and the present
/// estimates.
struct damage_draws {
  std::vector<double> estimates = {};
  std::vector<std::vector<double>> draws = {};
  std::vector<double> ties =
      {};  ///< of each candidate: so near to another even the whole scan cannot tell them apart; empty: 0
};

/// How sure an answer is that rests on the estimates: for each candidate the chance that it is wrong about that one, and how
/// much of that is tolerated on average.
struct doubts {
  std::vector<double> chances;
  double tolerated = 0;
};

/// Says after each batch where every candidate stands now, one standing a candidate; what is not open stays what it is. As
/// rank_options::stop a rule also has
///   std::string name() const;                                              what to call it in messages and files
/// Optional:
///   doubts doubts_of(const damage_draws&, double confidence) const;        lets scan_method::refine serve the rule
template <class R>
concept stopping_rule = std::copyable<R> && requires(const R& rule, const look& at) {
  { rule(at) } -> std::same_as<std::vector<standing>>;
};

}  // namespace klens

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <klens/rank/scores.hpp>
#include <klens/rank/stopping.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace klens {

/// How far a scan is; given to the progress callback after every candidate of every batch.
struct scan_progress {
  std::size_t batch = 0;  ///< the current one, from 0
  std::size_t batches = 0;
  std::size_t candidate = 0;   ///< how many of this batch are done
  std::size_t candidates = 0;  ///< in this batch: those that left are not among them
  std::string_view layer;      ///< the one just measured
  std::string_view scheme;
  std::size_t positions = 0;     ///< of the batches until now, this one included
  double forwards = 0;           ///< spent
  double expected_forwards = 0;  ///< at the end, if no further candidate leaves
  double seconds = 0;            ///< since the start
  double seconds_left = 0;       ///< estimate
};

/// Everything that a scan needs in order to go on after a batch as if it had never stopped.
struct scan_checkpoint {
  scores so_far;
  std::size_t batches = 0;  ///< done
  double spent = 0;         ///< forwards times positions
};

/// What is done to the model when a candidate is measured.
enum class direction {
  from_reference,  ///< one layer quantized, the rest untouched: the damage of that layer alone
  from_quantized   ///< every layer quantized, one restored: the damage that restoring it takes away, interactions included
};

/// How candidates are scored.
enum class scan_method {
  exact,  ///< every candidate is measured
  local,  ///< every candidate runs its own stage only, a few run the whole model: all for about one forward
  refine  ///< as local, then candidates about which `stop` asks and the answer is in doubt are measured on further batches
};

/// What the methods local and refine need to know. They predict `kl` alone, and need a residual_forward.
struct local_options {
  std::size_t batches = 1;        ///< the first so many of the scan's batches are looked at
  std::size_t calibrations = 12;  ///< candidates that are measured there, to learn the gains from
};

/// What a scan needs to know beside layers, forward, schemes and metrics.
struct rank_options {
  std::size_t batches = 1;          ///< strengths 2 and 3: how many batches the forward has
  std::size_t sequence_length = 0;  ///< positions in a sequence; 0: every batch is one sequence
  std::vector<std::int32_t>
      tokens;                 ///< of all batches in order, a token a position; may be empty: then no delta_ce, no perplexity
  std::size_t positions = 0;  ///< measure at so many positions, drawn across all sequences; 0: at all. Needs tokens
  std::uint64_t seed = 1;     ///< of that draw
  direction from = direction::from_reference;
  scan_method method = scan_method::exact;
  local_options local;
  any_stopping_rule stop;  ///< exhaustive unless set: klens::split{0.5}, klens::top{10}, klens::order{0.95}, klens::budget{20}
  double confidence =
      0.99;             ///< that a place which `stop` calls settled is right, over all looks together; for scan_method::refine
                        ///< the share of places that is expected to be right
  std::string rank_by;  ///< the metric that `stop` looks at; empty: the first
  bool noise_floor = false;  ///< also measure what rounding alone does to the first batch; needs a residual_forward
  std::size_t threads = 1;   ///< for comparing rows and quantizing; results do not depend on it
  std::function<bool(const scan_progress&)> progress;      ///< false: stop after this candidate and return what there is
  std::function<void(const scan_checkpoint&)> checkpoint;  ///< called after every batch
  const scan_checkpoint* resume = nullptr;  ///< go on from here; layers, schemes, metrics and options must be those of its scan
};

}  // namespace klens

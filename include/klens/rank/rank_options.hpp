#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <klens/matrix.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/rank/any_stopping_rule.hpp>
#include <klens/rank/scores.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// How far a scan is; given to the progress callback after every candidate of every batch.
struct scan_progress {
  std::size_t batch = 0;  ///< the current one, from 0
  std::size_t batches = 0;
  std::size_t candidate = 0;    ///< how many of this batch are done
  std::size_t candidates = 0;   ///< in this batch: those that left are not among them
  std::string_view layer = {};  ///< the one just measured
  std::string_view scheme = {};
  std::size_t positions = 0;     ///< of the batches until now, this one included
  double forwards = 0;           ///< spent
  double expected_forwards = 0;  ///< at the end, if no further candidate leaves
  double seconds = 0;            ///< since the start
  double seconds_left = 0;       ///< estimate
};

/// Everything that a scan needs in order to go on after a batch as if it had never stopped.
struct scan_checkpoint {
  scores so_far;            ///< so_far.cost: what was spent until then, seconds included
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
  std::size_t batches = 1;       ///< the first so many of the scan's batches are looked at
  std::size_t calibrations = 0;  ///< candidates that are measured there, to learn the gains from; 0: 3.2 times the square root
                                 ///< of how many candidates there are
};

/// What is called after every candidate of every batch: any callable that takes a scan_progress and returns bool (false: stop
/// after this candidate and return what there is) or nothing.
class progress_callback {
 public:
  progress_callback() = default;
  progress_callback(std::nullptr_t) {}  // NOLINT: as std::function
  template <class Callable>
    requires(!std::same_as<std::remove_cvref_t<Callable>, progress_callback> &&
             std::invocable<Callable&, const scan_progress&>)  //
  progress_callback(Callable call) {                           // NOLINT: any callable is one
    using answer = std::invoke_result_t<Callable&, const scan_progress&>;
    static_assert(std::is_void_v<answer> || std::is_convertible_v<answer, bool>,
                  "klens: a progress callback returns bool (false: stop) or nothing");
    call_ = [call](const scan_progress& at) mutable {
      if constexpr (std::is_void_v<answer>) {
        call(at);
        return true;
      } else {
        return static_cast<bool>(call(at));
      }
    };
  }
  explicit operator bool() const noexcept { return call_ != nullptr; }
  /// False: the caller wants to stop.
  bool operator()(const scan_progress& at) const { return call_(at); }

 private:
  std::function<bool(const scan_progress&)> call_;
};

/// What a scan needs to know beside layers, forward, schemes and metrics.
struct rank_options {
  std::size_t batches = 1;          ///< strengths 2 and 3: how many batches the forward has
  std::size_t sequence_length = 0;  ///< positions in a sequence; 0: every batch is one sequence
  std::vector<std::int32_t>
      tokens;  ///< of all batches in order, a token a position, -1 for one that the model is not asked to predict;
               ///< may be empty: then no delta_ce, no perplexity
  std::vector<bool> counted;  ///< which positions count, an entry a token (false: padding, a label of -100); empty: all count.
                              ///< One that does not count enters no metric, and no perplexity as a next token either
  std::size_t positions = 0;  ///< measure at so many positions, drawn across all sequences; 0: at all. Needs tokens
  std::uint64_t seed = 1;     ///< of that draw
  bool by_position = false;   ///< also the first metric in bands of position (layer_score::by_position); method exact,
                              ///< from_reference
  std::vector<any_metric> metrics{kl{}};                      ///< what to measure, unless rank_layers is given metrics
  std::function<matrix<float>(std::size_t batch)> reference;  ///< the reference logits of a batch, where they are not the
                                                              ///< forward's own (another engine's file); method exact only
  direction from = direction::from_reference;
  scan_method method = scan_method::exact;
  local_options local;
  any_stopping_rule stop;  ///< exhaustive unless set: klens::split{0.5}, klens::top{10}, klens::order{0.95}, klens::budget{20}
  double confidence =
      0.99;             ///< that a place which `stop` calls settled is right, over all looks together; for scan_method::refine
                        ///< the share of places that is expected to be right
  std::string rank_by;  ///< the metric that `stop` looks at; empty: the first
  bool repeat_reference = true;  ///< method exact: run the untouched model twice over the first batch; other logits the second
                                 ///< time become scores::noise and a remark. Costs one forward over that batch
  bool noise_floor = false;  ///< also measure what rounding alone does to the first batch (scores::noise). Where the forward
                             ///< is no residual_forward, scores::noise is what running it twice gives
  std::size_t threads = 1;   ///< for comparing rows and quantizing; results do not depend on it
  std::size_t logits_memory = std::size_t{512} << 20;  ///< bytes of a batch's reference logits that are kept. Of a larger batch
                                                       ///< a positioned_forward makes them again for every candidate, a part at
                                                       ///< a time, which costs its head once more; the results are the same
  progress_callback progress;                          ///< called after every candidate of every batch
  std::function<void(const scan_checkpoint&)> checkpoint;  ///< called after every batch
  const scan_checkpoint* resume = nullptr;  ///< go on from here; layers, schemes, metrics and options must be those of its scan
};

}  // namespace klens

#pragma once

#include <cmath>
#include <cstddef>
#include <klens/metric/kl.hpp>
#include <klens/metric/measure.hpp>
#include <klens/metric/position.hpp>
#include <klens/metric/top1.hpp>
#include <klens/rank/layer.hpp>
#include <map>
#include <string>
#include <vector>

#include "engine/model.hpp"
#include "token_set.hpp"

namespace hybrid {

/// A version of a model: the scheme of each layer that is not as it was.
using named_schemes = std::map<std::string, std::string>;

/// What a version of a model was measured to be, against the untouched one.
struct measured_version {
  klens::totals<klens::kl> kl{klens::kl{}};
  klens::totals<klens::top1> top1{klens::top1{}};
  std::vector<klens::contribution> nll_by_sequence;  ///< sum of -ln Q(next token), and how many

  [[nodiscard]] double perplexity() const;
  /// Standard error of this perplexity's difference to that of `base`, from how the difference varies between sequences: both
  /// read the same text, so most of the scatter of either is not in it. NaN for a single sequence.
  [[nodiscard]] double perplexity_error(const measured_version& base) const;
};

/// Measures the untouched model (the first of the result) and each version, all on the same tokens, and leaves the weights as
/// they were. At most two batches of logits are in memory.
/// Throws     klens::numeric_error for weights that a scheme cannot store and for logits that are no numbers, naming the layer
///            or the position.
[[nodiscard]] std::vector<measured_version> measure_versions(const model& of, std::vector<klens::layer>& layers,
                                                             const std::vector<named_schemes>& versions,
                                                             const token_set& tokens, std::size_t sequences_per_batch,
                                                             std::size_t threads);

}  // namespace hybrid

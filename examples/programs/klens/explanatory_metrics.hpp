#pragma once

#include <klens/metric/any_metric.hpp>
#include <string>
#include <vector>

namespace programs {

/// Metrics between KL and MSE, each with one thing changed, to see what makes one of the two order layers better:
///   kl_t0.5, kl_t2   KL of the logits divided by a temperature of 0.5, 2: sharper and flatter predictions
///   var_p            variance of the logits' change under P: twice the second-order term of KL (docs/theory.md, 2.1)
///   mse_centred      MSE after the mean change of a row, which no probability notices, is taken away
///   mse_likely       MSE over tokens that P gives at least 1/10000
///   mse_p            squared error of the probabilities
/// Higher is worse. Probabilities and changes of logits are floats, sums of them doubles. Slower than klens' own: each reads both
/// rows again. +inf where what P may choose is masked (-inf).
[[nodiscard]] std::vector<klens::any_metric> explanatory_metrics();

/// One of those, or of klens' own, by name. Throws klens::argument_error where nobody knows it.
[[nodiscard]] klens::any_metric metric_of_study(const std::string& name);

}  // namespace programs

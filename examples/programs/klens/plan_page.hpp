#pragma once

#include <klens/layer.hpp>
#include <klens/plan/plan.hpp>
#include <klens/rank/scores.hpp>
#include <span>
#include <string>
#include <vector>

namespace programs {

/// A plan as a page (report/page.hpp): a map of the model's blocks by kind of layer, coloured by how many bits each layer keeps, and
/// what the plan and its baselines were measured to lose.
///   layers     of the model, in its order; those without a scheme in the plan are not shown
///   scored     what the plan was made from
///   measured   rows of the table: model, bytes, bits/weight, kl, perplexity, its error, top1; the heading first
[[nodiscard]] std::string plan_page(const klens::plan& plan, std::span<const klens::layer> layers, const klens::scores& scored,
                                    const std::vector<std::vector<std::string>>& measured, const std::string& title,
                                    const std::string& headline);

}  // namespace programs

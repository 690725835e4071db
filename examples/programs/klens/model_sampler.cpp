#include "model_sampler.hpp"

#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace programs {
namespace {

/// Sequences of the reference engine that grow by a token each.
class growing_sequences {
 public:
  growing_sequences(const model& of, std::size_t threads) : model_{&of}, threads_{threads} {}

  [[nodiscard]] klens::matrix<float> operator()(std::span<const std::int32_t> newest) {
    if (at_) {
      at_ = model_->go_on(std::move(*at_), newest);
    } else {
      at_ = model_->begin(newest, newest.size(), 1);
      at_->before.resize(newest.size());
    }
    for (std::size_t stage = 0; stage < model_->stages(); ++stage) model_->advance(*at_, stage, threads_);
    std::vector<std::size_t> rows(newest.size());
    std::iota(rows.begin(), rows.end(), std::size_t{0});
    return model_->logits(*at_, rows, threads_);
  }

 private:
  const model* model_;
  std::size_t threads_;
  std::optional<state> at_;
};

}  // namespace

token_sampler sampler_of(const model& of, std::size_t threads) {
  return {.vocabulary = of.vocabulary(),
          .beginning = of.begin_token(),
          .threads = threads,
          .begin = [&of, threads](std::size_t, std::size_t) {
            return growing_sequences{of, threads};
          }};
}

}  // namespace programs

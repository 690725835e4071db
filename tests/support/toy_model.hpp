#pragma once
// A small model in every strength of forward callable: embedding of four numbers a token, two hidden layers, a head.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <numeric>
#include <span>
#include <vector>

namespace support {

inline klens::matrix<float> wave(Eigen::Index rows, Eigen::Index columns, double step) {
  klens::matrix<float> values(rows, columns);
  for (Eigen::Index i = 0; i < values.size(); ++i)
    values.data()[i] = static_cast<float>(std::sin(step * static_cast<double>(i + 1)));
  return values;
}

struct toy_model {
  static constexpr Eigen::Index width = 12, vocabulary = 19;

  klens::matrix<float> embedding = wave(vocabulary, width, 0.9);
  klens::matrix<float> first = wave(width, width, 0.7), second = wave(width, width, 1.3), unused = wave(3, width, 0.3);
  klens::matrix<float> head = wave(vocabulary, width, 1.9);
  std::size_t sequences = 6, length = 5, per_batch = 2;
  std::size_t stages_run = 0;

  struct state {
    klens::matrix<float> hidden;
    std::size_t batch = 0;
  };

  [[nodiscard]] std::vector<std::int32_t> tokens() const {
    std::vector<std::int32_t> all(sequences * length);
    for (std::size_t i = 0; i < all.size(); ++i)
      all[i] = static_cast<std::int32_t>((i * i + 3 * i) % static_cast<std::size_t>(vocabulary));
    return all;
  }
  std::vector<klens::layer> layers() {
    std::vector<klens::layer> all{{"block.0.up.weight", first}, {"block.1.up.weight", second}, {"head.weight", head}};
    all[0].stage = 1;
    all[1].stage = 2;
    all[2].stage = 3;
    return all;
  }

  // Strength 3.
  [[nodiscard]] std::size_t stages() const { return 3; }
  [[nodiscard]] std::size_t batches() const { return (sequences + per_batch - 1) / per_batch; }
  [[nodiscard]] state begin(std::size_t batch) { return {{}, batch}; }
  void advance(state& at, std::size_t stage) {
    ++stages_run;
    if (stage == 0) {
      const std::size_t first_token = at.batch * per_batch * length,
                        end = std::min(first_token + per_batch * length, sequences * length);
      const auto all = tokens();
      at.hidden.resize(static_cast<Eigen::Index>(end - first_token), width);
      for (std::size_t i = first_token; i < end; ++i)
        at.hidden.row(static_cast<Eigen::Index>(i - first_token)) = embedding.row(all[i]);
      return;
    }
    const klens::matrix<float>& weights = stage == 1 ? first : second;
    for (Eigen::Index r = 0; r < at.hidden.rows(); ++r) {  // row by row: the bits do not depend on the batch
      const Eigen::RowVectorXf added = (at.hidden.row(r) * weights.transpose()).array().tanh().matrix();
      at.hidden.row(r) += added;
    }
  }
  [[nodiscard]] klens::matrix<float> logits(const state& at) {
    std::vector<std::size_t> rows(static_cast<std::size_t>(at.hidden.rows()));
    std::iota(rows.begin(), rows.end(), std::size_t{0});
    return head_of(at, rows);
  }
  [[nodiscard]] klens::matrix<float> head_of(const state& at, std::span<const std::size_t> rows) const {
    klens::matrix<float> values(static_cast<Eigen::Index>(rows.size()), vocabulary);
    for (std::size_t i = 0; i < rows.size(); ++i)
      values.row(static_cast<Eigen::Index>(i)) = at.hidden.row(static_cast<Eigen::Index>(rows[i])) * head.transpose();
    return values;
  }

  // Strength 2, and with all batches in a row strength 1.
  [[nodiscard]] klens::matrix<float> batch_logits(std::size_t batch) {
    state at = begin(batch);
    for (std::size_t stage = 0; stage < stages(); ++stage) advance(at, stage);
    return logits(at);
  }
  [[nodiscard]] klens::matrix<float> all_logits() {
    klens::matrix<float> all(static_cast<Eigen::Index>(sequences * length), vocabulary);
    for (std::size_t b = 0; b < batches(); ++b) {
      const klens::matrix<float> part = batch_logits(b);
      all.middleRows(static_cast<Eigen::Index>(b * per_batch * length), part.rows()) = part;
    }
    return all;
  }
};

/// The same with logits of chosen rows.
struct positioned_toy_model : toy_model {
  using toy_model::logits;
  [[nodiscard]] std::size_t positions(const state& at) const { return static_cast<std::size_t>(at.hidden.rows()); }
  [[nodiscard]] klens::matrix<float> logits(const state& at, std::span<const std::size_t> rows) const {
    return head_of(at, rows);
  }
};

}  // namespace support

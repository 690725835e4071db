#pragma once
// A deep small model that shows its residual stream: an embedding, six blocks of two steps with a weight each, a head. One
// layer reaches no logit, one is read by two stages.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/random.hpp>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <string>
#include <vector>

namespace support {

inline klens::matrix<float> gaussian(Eigen::Index rows, Eigen::Index columns, double scale, std::uint64_t seed) {
  klens::matrix<float> values(rows, columns);
  klens::detail::random_stream random{seed};
  for (Eigen::Index i = 0; i < values.size(); ++i) values.data()[i] = static_cast<float>(scale * random.normal());
  return values;
}

struct residual_model {
  static constexpr Eigen::Index width = 24, vocabulary = 31;
  static constexpr std::size_t steps = 12;

  klens::matrix<float> embedding = gaussian(vocabulary, width, 1, 1), head = gaussian(vocabulary, width, 0.3, 2);
  klens::matrix<float> shared = gaussian(width, width, 0.04, 3);  // read by the second step and by the last but one
  klens::matrix<float> unused = gaussian(5, width, 1, 4);
  std::vector<klens::matrix<float>> weights;
  std::size_t sequences = 16, length = 8, per_batch = 4;

  residual_model() {
    for (std::size_t s = 0; s < steps; ++s) weights.push_back(gaussian(width, width, s % 2 ? 0.15 : 0.07, 10 + s));
  }

  struct state {
    klens::matrix<float> hidden;
    std::size_t batch = 0;
  };

  [[nodiscard]] std::vector<std::int32_t> tokens() const {
    std::vector<std::int32_t> all(sequences * length);
    for (std::size_t i = 0; i < all.size(); ++i)
      all[i] = static_cast<std::int32_t>((i * i * 7 + 3 * i) % static_cast<std::size_t>(vocabulary));
    return all;
  }
  [[nodiscard]] std::size_t batches() const { return sequences / per_batch; }
  std::vector<klens::layer> layers() {
    std::vector<klens::layer> all;
    for (std::size_t s = 0; s < steps; ++s) {
      all.emplace_back("block." + std::to_string(s / 2) + (s % 2 ? ".down.weight" : ".up.weight"), weights[s]);
      all.back().stage = 1 + s;
    }
    all.emplace_back("shared.weight", shared);
    all.back().stage = 2;
    all.back().last_stage = steps - 1;
    all.emplace_back("unused.weight", unused);
    all.back().stage = 3;
    all.emplace_back("head.weight", head);
    all.back().stage = stages();
    return all;
  }

  [[nodiscard]] std::size_t stages() const { return 1 + steps; }
  [[nodiscard]] state begin(std::size_t batch) const { return {{}, batch}; }
  void advance(state& at, std::size_t stage) const {
    if (stage == 0) {
      const auto all = tokens();
      at.hidden.resize(static_cast<Eigen::Index>(per_batch * length), width);
      for (Eigen::Index r = 0; r < at.hidden.rows(); ++r)
        at.hidden.row(r) = embedding.row(all[at.batch * per_batch * length + static_cast<std::size_t>(r)]);
      return;
    }
    const bool also_shared = stage == 2 || stage == steps - 1;
    for (Eigen::Index r = 0; r < at.hidden.rows(); ++r) {
      const Eigen::RowVectorXf in = at.hidden.row(r) / std::sqrt(at.hidden.row(r).squaredNorm() / width + 1e-6f);
      Eigen::RowVectorXf added = (in * weights[stage - 1].transpose()).array().tanh().matrix();
      if (also_shared) added += in * shared.transpose();
      at.hidden.row(r) += added;
    }
  }
  [[nodiscard]] klens::matrix<float> logits(const state& at) const {
    klens::matrix<float> values(at.hidden.rows(), vocabulary);
    for (Eigen::Index r = 0; r < at.hidden.rows(); ++r) values.row(r) = at.hidden.row(r) * head.transpose();
    return values;
  }
  [[nodiscard]] klens::matrix_ref<float> residual(state& at) const { return at.hidden; }
};

}  // namespace support

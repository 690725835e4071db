#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "frozen_graph.hpp"
#include "gguf_model.hpp"
#include "graph_runner.hpp"
#include "paged_weights.hpp"

namespace llama_adapter {

/// A model whose graph cannot be cut into stages, and why.
class uncut_error : public klens::error {
 public:
  using klens::error::error;
};

/// A model in stages: embedding, block 0's mixer, the rest of block 0, ... (or block 0, where its mixer adds nothing to the stream
/// by itself). Every stage is a piece of llama.cpp's own graph, cut at the residual stream (`l_out-<block>`), and has proved that
/// alone it does what it does in the whole. In float32, of weights that stay as they are stored.
class staged_model {
 public:
  /// Of a model with arithmetic::stored, which must not run meanwhile. `sample` are the tokens of the proof, and as many as a
  /// sequence has. Throws uncut_error.
  staged_model(gguf_model& of, paged_weights::packers packer_of, const run_settings& settings,
               std::span<const std::int32_t> sample);

  [[nodiscard]] std::size_t stages() const noexcept { return pieces_.size(); }
  /// Products of one token.
  [[nodiscard]] double cost(std::size_t stage) const noexcept { return costs_[stage]; }
  /// The residual stream of one sequence [length x width] after a stage, from what it was before; from the tokens at stage 0.
  void advance(std::span<const std::int32_t> tokens, std::size_t stage, klens::matrix<float>& stream);
  /// The logits of rows of the stream after the last stage.
  [[nodiscard]] klens::matrix<float> logits(const klens::matrix<float>& rows);

  /// As gguf_model::layers, with their stages.
  [[nodiscard]] std::vector<klens::layer> layers();
  /// What did not prove itself, and what is done instead.
  [[nodiscard]] const std::vector<std::string>& remarks() const noexcept { return remarks_; }

 private:
  void find_cuts(std::span<const std::int32_t> sample);
  void find_head(const gguf_model& of);
  [[nodiscard]] matrix_use use_of(const ggml_tensor* tensor) const;
  [[nodiscard]] std::vector<klens::matrix<float>> exits_of(std::span<const std::int32_t> tokens);
  void prove(std::span<const std::int32_t> sample);
  void set_costs();

  std::string tied_note_;
  frozen_graph graph_, head_graph_;
  std::unique_ptr<paged_weights> weights_;
  std::unique_ptr<graph_runner> runner_;
  std::vector<std::pair<std::string, ggml_tensor*>> cuts_;  // the exits of the stages
  std::vector<graph_piece> pieces_;
  std::unique_ptr<graph_piece> to_head_, after_head_;
  ggml_tensor* product_ = nullptr;  // with the head
  const paged_matrix* head_matrix_ = nullptr;
  std::vector<double> costs_;
  std::vector<std::string> remarks_;
  std::mutex one_at_a_time_;
};

/// Which of so many cuts are to stay so that every piece between neighbours proves itself: `difference(from, to)` is what the
/// piece from one cut to another does otherwise than the whole, as a share of what it gives (from -1: from the beginning). A cut
/// whose piece does not prove itself goes, and the pieces beside it become one.
[[nodiscard]] std::vector<std::size_t> proven_cuts(
    std::size_t count, const std::function<double(std::ptrdiff_t from, std::size_t to)>& difference);

}  // namespace llama_adapter

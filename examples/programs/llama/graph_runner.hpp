#pragma once

#include <ggml-cpp.h>

#include <cstddef>
#include <klens/matrix.hpp>
#include <optional>
#include <span>
#include <vector>

#include "frozen_graph.hpp"
#include "paged_weights.hpp"

namespace llama_adapter {

/// Runs nodes of frozen graphs on the CPU, the floats of their weights loaded as they come.
class graph_runner {
 public:
  graph_runner(paged_weights& weights, std::size_t threads);

  /// A run of nodes, ready to be carried out again and again.
  class sequence_of_nodes {
   public:
    [[nodiscard]] std::span<ggml_tensor* const> nodes() const noexcept { return nodes_; }

   private:
    friend class graph_runner;
    struct stretch {  // of nodes that need the floats of one block at most
      std::optional<int> block;
      ggml_context_ptr memory;
      ggml_cgraph* graph = nullptr;
    };
    std::vector<ggml_tensor*> nodes_;
    std::vector<stretch> stretches_;
  };
  [[nodiscard]] sequence_of_nodes prepare(std::span<ggml_tensor* const> nodes) const;
  void run(const sequence_of_nodes& nodes);

  /// Rows of x times the transpose of a matrix's current weights, which are unpacked a panel at a time.
  void multiply(klens::const_matrix_ref<float> x, const paged_matrix& by, klens::matrix_ref<float> into);

  [[nodiscard]] paged_weights& weights() noexcept { return weights_; }

 private:
  void compute(ggml_cgraph* graph);

  paged_weights& weights_;
  std::size_t threads_;
  ggml_backend_ptr cpu_;
};

/// From one tensor of a graph to another. The rows of both are [positions x width], float.
class graph_piece {
 public:
  /// `from` may be null: from the beginning.
  graph_piece(const graph_runner& runner, const frozen_graph& graph, ggml_tensor* from, ggml_tensor* to);

  /// What `to` becomes where `from` has these rows (fewer than the graph has positions: the first ones are given and taken). It
  /// may be the same matrix.
  void run(graph_runner& runner, const frozen_graph& graph, klens::const_matrix_ref<float> rows,
           klens::matrix<float>& result) const;

  /// Whether any of its nodes reads that tensor.
  [[nodiscard]] bool reads(const ggml_tensor* tensor) const noexcept;

 private:
  ggml_tensor* from_;
  ggml_tensor* to_;
  graph_runner::sequence_of_nodes before_, after_;  // of `from`, in the order of the graph
};

/// The rows of a node that has just been computed.
[[nodiscard]] klens::matrix<float> rows_of(const ggml_tensor* node, Eigen::Index count);

}  // namespace llama_adapter

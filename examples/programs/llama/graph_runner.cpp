#include "graph_runner.hpp"

#include <ggml-backend.h>
#include <ggml.h>

#include <algorithm>
#include <cstring>
#include <klens/error.hpp>
#include <klens/parallel_for.hpp>

#include "graph_part.hpp"

namespace llama_adapter {
namespace {

constexpr std::size_t panel_rows = 1024;

ggml_context_ptr memory_for_graph(std::size_t nodes, std::size_t tensors) {
  return ggml_context_ptr{
      ggml_init({ggml_graph_overhead_custom(nodes, false) + tensors * ggml_tensor_overhead(), nullptr, true})};
}

void put_rows(klens::const_matrix_ref<float> rows, ggml_tensor* into) {
  auto* const data = static_cast<std::byte*>(into->data);
  for (Eigen::Index r = 0; r < rows.rows(); ++r) {
    const std::span<const float> row = klens::row(rows, r);
    std::memcpy(data + static_cast<std::size_t>(r) * into->nb[1], row.data(), row.size_bytes());
  }
}

}  // namespace

klens::matrix<float> rows_of(const ggml_tensor* node, Eigen::Index count) {
  klens::matrix<float> rows(count, node->ne[0]);
  for (Eigen::Index r = 0; r < count; ++r)
    std::memcpy(&rows(r, 0), static_cast<const std::byte*>(node->data) + static_cast<std::size_t>(r) * node->nb[1],
                static_cast<std::size_t>(node->ne[0]) * sizeof(float));
  return rows;
}

graph_runner::graph_runner(paged_weights& weights, std::size_t threads)
    : weights_{weights}, threads_{threads}, cpu_{ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr)} {
  if (!cpu_) throw klens::error{"llama.cpp has no CPU backend"};
  const auto registry = ggml_backend_dev_backend_reg(ggml_backend_get_device(cpu_.get()));
  if (const auto set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(
          ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_n_threads")))
    set_threads(cpu_.get(), static_cast<int>(threads));
}

graph_runner::sequence_of_nodes graph_runner::prepare(std::span<ggml_tensor* const> nodes) const {
  sequence_of_nodes made;
  made.nodes_.assign(nodes.begin(), nodes.end());
  for (ggml_tensor* const node : nodes) {
    std::optional<int> block;
    for (const ggml_tensor* source : node->src)
      if (source && !block) block = weights_.block_of(memory_of(source));
    if (made.stretches_.empty() || (block && made.stretches_.back().block && block != made.stretches_.back().block)) {
      auto& next = made.stretches_.emplace_back();
      next.memory = memory_for_graph(nodes.size(), 0);
      next.graph = ggml_new_graph_custom(next.memory.get(), nodes.size(), false);
    }
    auto& now = made.stretches_.back();
    if (block) now.block = block;
    ggml_graph_add_node(now.graph, node);
  }
  return made;
}

void graph_runner::run(const sequence_of_nodes& nodes) {
  for (const sequence_of_nodes::stretch& each : nodes.stretches_) {
    if (each.block) weights_.load(*each.block);
    compute(each.graph);
  }
}

void graph_runner::compute(ggml_cgraph* graph) {
  if (const ggml_status status = ggml_backend_graph_compute(cpu_.get(), graph); status != GGML_STATUS_SUCCESS)
    throw klens::error{"llama.cpp cannot run a part of the model (status " + std::to_string(status) + ")"};
}

void graph_runner::multiply(klens::const_matrix_ref<float> x, const paged_matrix& by, klens::matrix_ref<float> into) {
  const auto columns = static_cast<Eigen::Index>(by.columns);
  klens::matrix<float> factor = x, panel(static_cast<Eigen::Index>(std::min(panel_rows, by.rows)), columns),
                       product(x.rows(), panel.rows());
  for (std::size_t first = 0; first < by.rows; first += panel_rows) {
    const auto count = static_cast<Eigen::Index>(std::min(panel_rows, by.rows - first));
    klens::parallel_for(threads_, static_cast<std::size_t>(count), [&](std::size_t r) {
      weights_.unpack(by, first + r, panel.middleRows(static_cast<Eigen::Index>(r), 1));
    });
    weights_.leave(by, first, static_cast<std::size_t>(count));
    const ggml_context_ptr memory = memory_for_graph(3, 3);
    ggml_tensor* const a = ggml_new_tensor_2d(memory.get(), GGML_TYPE_F32, columns, count);
    ggml_tensor* const b = ggml_new_tensor_2d(memory.get(), GGML_TYPE_F32, columns, factor.rows());
    ggml_tensor* const c = ggml_mul_mat(memory.get(), a, b);
    a->data = panel.data();
    b->data = factor.data();
    c->data = product.data();
    ggml_cgraph* const graph = ggml_new_graph_custom(memory.get(), 3, false);
    ggml_build_forward_expand(graph, c);
    compute(graph);
    into.middleCols(static_cast<Eigen::Index>(first), count) =
        Eigen::Map<const klens::matrix<float>>{product.data(), x.rows(), count};
  }
}

graph_piece::graph_piece(const graph_runner& runner, const frozen_graph& graph, ggml_tensor* from, ggml_tensor* to)
    : from_{from}, to_{to} {
  const std::vector<ggml_tensor*> needed = needed_nodes(graph.nodes(), from, to);
  const auto place = [&](const ggml_tensor* of) { return std::ranges::find(graph.nodes(), of) - graph.nodes().begin(); };
  const auto split =
      from ? std::ranges::find_if(needed, [&, at = place(from)](auto* each) { return place(each) > at; }) : needed.begin();
  before_ = runner.prepare(std::vector(needed.begin(), split));
  after_ = runner.prepare(std::vector(split, needed.end()));
}

void graph_piece::run(graph_runner& runner, const frozen_graph& graph, klens::const_matrix_ref<float> rows,
                      klens::matrix<float>& result) const {
  graph.restore_inputs(before_.nodes());
  graph.restore_inputs(after_.nodes());
  runner.run(before_);
  const Eigen::Index count = from_ ? rows.rows() : static_cast<Eigen::Index>(graph.length());
  if (from_) put_rows(rows, from_);
  runner.run(after_);
  result = rows_of(to_, count);
}

bool graph_piece::reads(const ggml_tensor* tensor) const noexcept {
  const auto among = [&](std::span<ggml_tensor* const> nodes) {
    return std::ranges::any_of(nodes, [&](const ggml_tensor* node) {
      return std::ranges::any_of(node->src, [&](const ggml_tensor* each) { return each && memory_of(each) == tensor; });
    });
  };
  return among(before_.nodes()) || among(after_.nodes());
}

}  // namespace llama_adapter

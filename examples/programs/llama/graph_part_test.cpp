// Which nodes of a graph a part of it needs.
#include "graph_part.hpp"

#include <doctest/doctest.h>
#include <ggml-cpp.h>

#include <string>

using namespace llama_adapter;

namespace {

// A graph as a list of nodes in the order in which they are made.
struct drawn_graph {
  ggml_context_ptr memory{ggml_init({std::size_t{1} << 20, nullptr, true})};
  std::vector<ggml_tensor*> nodes;

  ggml_tensor* leaf() { return ggml_new_tensor_1d(memory.get(), GGML_TYPE_F32, 8); }
  ggml_tensor* add(ggml_tensor* made) {
    nodes.push_back(made);
    return made;
  }
};

using node_list = std::vector<ggml_tensor*>;

}  // namespace

TEST_CASE("graph_part: from one tensor to another, what lies between and what it takes from beside") {
  drawn_graph graph;
  ggml_context* const m = graph.memory.get();
  ggml_tensor* const tokens = graph.leaf();
  ggml_tensor* const mask = graph.add(ggml_sqr(m, graph.leaf()));  // made before all blocks, read in the second one
  ggml_tensor* const entry = graph.add(ggml_sqr(m, tokens));
  ggml_tensor* const first = graph.add(ggml_add(m, entry, graph.leaf()));
  ggml_tensor* const inner = graph.add(ggml_mul(m, first, mask));
  ggml_tensor* const second = graph.add(ggml_add(m, first, inner));
  ggml_tensor* const third = graph.add(ggml_sqr(m, second));
  CHECK(needed_nodes(graph.nodes, nullptr, first) == node_list{entry, first});
  CHECK(needed_nodes(graph.nodes, first, second) == node_list{mask, inner, second});
  CHECK(needed_nodes(graph.nodes, second, third) == node_list{third});
  CHECK(needed_nodes(graph.nodes, first, third) == node_list{mask, inner, second, third});
}

TEST_CASE("graph_part: what another way brings past the cut is computed too") {
  drawn_graph graph;
  ggml_context* const m = graph.memory.get();
  ggml_tensor* const entry = graph.add(ggml_sqr(m, graph.leaf()));
  ggml_tensor* const first = graph.add(ggml_sqr(m, entry));
  ggml_tensor* const second = graph.add(ggml_add(m, first, entry));
  CHECK(needed_nodes(graph.nodes, first, second) == node_list{entry, second});
}

TEST_CASE("graph_part: caches and states are written before they are read, and what is written later is left out") {
  drawn_graph graph;
  ggml_context* const m = graph.memory.get();
  ggml_tensor *const cache = graph.leaf(), *const other = graph.leaf();
  ggml_tensor* const entry = graph.add(ggml_sqr(m, graph.leaf()));
  ggml_tensor* const key = graph.add(ggml_sqr(m, entry));
  ggml_tensor* const place = graph.add(ggml_view_1d(m, cache, 8, 0));
  ggml_tensor* const stored = graph.add(ggml_cpy(m, key, place));
  ggml_tensor* const elsewhere = graph.add(ggml_cpy(m, key, ggml_view_1d(m, other, 8, 0)));
  ggml_tensor* const seen = graph.add(ggml_view_1d(m, cache, 8, 0));  // of no node that wrote it
  ggml_tensor* const exit = graph.add(ggml_add(m, entry, seen));
  graph.add(ggml_cpy(m, exit, ggml_view_1d(m, cache, 8, 0)));
  CHECK(needed_nodes(graph.nodes, entry, exit) == node_list{key, place, stored, seen, exit});
  CHECK(memory_of(stored) == cache);
  CHECK(memory_of(elsewhere) == other);
}

#include "staged_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>
#include <set>
#include <string_view>

#include "graph_part.hpp"

namespace llama_adapter {
namespace {

constexpr std::size_t head_positions = 8;  // of the graph for the head alone
constexpr double rounding = 1e-5;          // what float32 sums in another order may differ by; the same kernels differ by 0

int block_in(const std::string& name) {
  int block = -1;
  (void)std::sscanf(name.c_str(), "blk.%d.", &block);
  return block;
}

std::string exit_name(std::size_t block) { return "l_out-" + std::to_string(block); }

bool is_stream(const ggml_tensor* node, std::int64_t width, std::size_t length) {
  return node->type == GGML_TYPE_F32 && node->ne[0] == width && node->ne[1] == static_cast<std::int64_t>(length) &&
         node->ne[2] == 1 && node->ne[3] == 1 && ggml_is_contiguous(node);
}

bool read_any(std::span<ggml_tensor* const> nodes, const std::function<bool(const ggml_tensor*)>& is) {
  return std::ranges::any_of(nodes, [&](const ggml_tensor* node) {
    return std::ranges::any_of(node->src, [&](const ggml_tensor* each) { return each && is(memory_of(each)); });
  });
}

// The last node before block 0 through which all goes that the tokens have to say; null: there is none.
ggml_tensor* embedding_exit(const frozen_graph& graph, const ggml_tensor* first_exit) {
  const auto nodes = graph.nodes();
  const auto is_tokens = [&](const ggml_tensor* each) { return each == graph.token_input(); };
  for (auto at = std::ranges::find(nodes, first_exit); at != nodes.begin();) {
    ggml_tensor* const node = *--at;
    if (!is_stream(node, first_exit->ne[0], graph.length())) continue;
    const std::vector<ggml_tensor*> before = needed_nodes(nodes, nullptr, node);
    if (!read_any(before, is_tokens) || read_any(before, [](const ggml_tensor* each) { return block_in(each->name) >= 0; }))
      continue;
    if (!read_any(needed_nodes(nodes, node, first_exit), is_tokens)) return node;
  }
  return nullptr;
}

// Where a block's mixer has added to the stream and what follows in the block reads nothing else of before; null: nowhere.
ggml_tensor* mixer_exit(const frozen_graph& graph, const ggml_tensor* entry, const ggml_tensor* exit) {
  const auto all = graph.nodes();
  const auto first = std::ranges::find(all, entry), last = std::ranges::find(all, exit);
  if (first == all.end() || last == all.end() || first > last) return nullptr;
  const std::span<ggml_tensor* const> inside{first + 1, last + 1};
  for (auto at = inside.end() - 1; at != inside.begin();) {
    ggml_tensor* const node = *--at;
    if (node->op != GGML_OP_ADD || !is_stream(node, exit->ne[0], graph.length())) continue;
    const std::vector<ggml_tensor*> rest = needed_nodes(inside, node, exit);
    const auto has_products = [](const ggml_tensor* each) {
      return each->op == GGML_OP_MUL_MAT || each->op == GGML_OP_MUL_MAT_ID;
    };
    if (std::ranges::any_of(rest, has_products) &&
        !read_any(rest, [&](const ggml_tensor* each) { return each == memory_of(entry); }))
      return node;
  }
  return nullptr;
}

// The order in which klens' own engine has the matrices of a block, so that a seed draws the same candidates there and here.
std::size_t place_in_block(const std::string& name) {
  constexpr std::array<std::string_view, 10> order{"ssm_x",  "ssm_in",      "ssm_out",  "attn_q", "attn_k",
                                                   "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
  return static_cast<std::size_t>(std::ranges::find(order, klens::kind_of(name)) - order.begin());
}

// ggml's threads wait for one another, busily, after every node: that pays where a block has work for milliseconds.
bool worth_sharing(const paged_weights& weights, std::size_t positions) {
  constexpr std::size_t products = std::size_t{1} << 25;
  return weights.float_bytes() / sizeof(float) * positions >= products;
}

double difference_of(const klens::matrix<float>& a, const klens::matrix<float>& b) {
  const double size = b.cast<double>().norm(), apart = (a.cast<double>() - b.cast<double>()).norm();
  return std::isfinite(apart) && size > 0 ? apart / size : HUGE_VAL;
}

}  // namespace

std::vector<std::size_t> proven_cuts(std::size_t count,
                                     const std::function<double(std::ptrdiff_t from, std::size_t to)>& difference) {
  std::vector<std::size_t> kept;
  for (std::size_t cut = 0; cut < count; ++cut) {
    const auto last = [&] { return kept.empty() ? std::ptrdiff_t{-1} : static_cast<std::ptrdiff_t>(kept.back()); };
    while (!kept.empty() && !(difference(last(), cut) <= rounding)) kept.pop_back();
    if (!kept.empty() || difference(-1, cut) <= rounding) kept.push_back(cut);
  }
  return kept;
}

staged_model::staged_model(gguf_model& of, paged_weights::packers packer_of, const run_settings& settings,
                           std::span<const std::int32_t> sample)
    : graph_{of.handle(), sample.size()}, head_graph_{of.handle(), std::min(sample.size(), head_positions)} {
  if (settings.gpu_layers != 0) throw uncut_error{"with --gpu-layers parts of it lie in the memory of a device"};
  if (of.tied()) tied_note_ = "tied to the head: the perturbation reaches both uses";
  find_cuts(sample);
  find_head(of);
  std::vector<paged_matrix> matrices = of.stored_matrices();
  for (paged_matrix& each : matrices) {
    each.block = block_in(each.name);
    for (paged_matrix::copy& copy : each.copies) copy.use = use_of(copy.tensor);
  }
  weights_ = std::make_unique<paged_weights>(std::move(matrices), std::move(packer_of), settings.threads);
  runner_ = std::make_unique<graph_runner>(*weights_, worth_sharing(*weights_, sample.size()) ? settings.threads : 1);
  head_matrix_ = weights_->find(product_->src[0]);
  to_head_ = std::make_unique<graph_piece>(*runner_, head_graph_, head_graph_.find(cuts_.back().first), product_->src[1]);
  if (ggml_tensor* const output = head_graph_.find("result_output"); output != product_)
    after_head_ = std::make_unique<graph_piece>(*runner_, head_graph_, product_, output);
  prove(sample);
  set_costs();
}

// Throws uncut_error.
void staged_model::find_cuts(std::span<const std::int32_t> sample) {
  ggml_tensor* const first = graph_.find(exit_name(0));
  if (!first || !graph_.token_input())
    throw uncut_error{"llama.cpp's graph of this model does not say where its blocks end (no l_out-0)"};
  if (ggml_tensor* const embedding = embedding_exit(graph_, first)) cuts_.emplace_back("embedding", embedding);
  for (std::size_t block = 0; ggml_tensor* const found = graph_.find(exit_name(block)); ++block) {
    if (!is_stream(found, first->ne[0], sample.size()))
      throw uncut_error{"what leaves block " + std::to_string(block) + " is no residual stream of [positions x width]"};
    if (!cuts_.empty())
      if (ggml_tensor* const inner = mixer_exit(graph_, cuts_.back().second, found))
        cuts_.emplace_back("mixer " + std::to_string(block), inner);
    cuts_.emplace_back(exit_name(block), found);
  }
}

void staged_model::find_head(const gguf_model& of) {
  const ggml_tensor *const last = head_graph_.find(cuts_.back().first), *const output = head_graph_.find("result_output");
  if (!last || !output) throw uncut_error{"llama.cpp's graph of this model does not name its logits (no result_output)"};
  const std::vector<paged_matrix> matrices = of.stored_matrices();
  const auto is_matrix = [&](const ggml_tensor* tensor) {
    return std::ranges::any_of(matrices, [&](const paged_matrix& each) {
      return std::ranges::find(each.copies, tensor, &paged_matrix::copy::tensor) != each.copies.end();
    });
  };
  for (ggml_tensor* node : needed_nodes(head_graph_.nodes(), last, output)) {
    if (std::ranges::none_of(node->src, [&](const ggml_tensor* each) { return each && is_matrix(memory_of(each)); })) continue;
    if (product_ || node->op != GGML_OP_MUL_MAT || !is_matrix(node->src[0]) || node->ne[2] != 1)
      throw uncut_error{"between the last block and the logits there is more than one product"};
    product_ = node;
  }
  if (!product_) throw uncut_error{"between the last block and the logits there is no product with a quantizable matrix"};
}

matrix_use staged_model::use_of(const ggml_tensor* tensor) const {
  for (const frozen_graph* graph : {&graph_, &head_graph_})
    for (const ggml_tensor* node : graph->nodes())
      if (node->op == GGML_OP_GET_ROWS && node->src[0] == tensor) return matrix_use::lookup;
  if (tensor == product_->src[0]) return matrix_use::head;
  return block_in(tensor->name) >= 0 ? matrix_use::block : matrix_use::other;
}

// What leaves each cut of the whole model, run from its first node to the last cut.
std::vector<klens::matrix<float>> staged_model::exits_of(std::span<const std::int32_t> tokens) {
  std::vector<klens::matrix<float>> exits;
  graph_.set_tokens(tokens);
  graph_.restore_inputs(graph_.nodes());
  auto done = graph_.nodes().begin();
  for (const auto& [name, cut] : cuts_) {
    const auto end = std::ranges::find(graph_.nodes(), cut) + 1;
    runner_->run(runner_->prepare({done, end}));
    exits.push_back(rows_of(cut, static_cast<Eigen::Index>(tokens.size())));
    done = end;
  }
  return exits;
}

void staged_model::prove(std::span<const std::int32_t> sample) {
  const std::vector<klens::matrix<float>> exits = exits_of(sample);
  // Other tokens last, so that no piece finds in caches and states what it should have written there.
  (void)exits_of(std::vector<std::int32_t>(sample.rbegin(), sample.rend()));
  graph_.set_tokens(sample);
  const auto piece_between = [&](std::ptrdiff_t from, std::size_t to) {
    return graph_piece{*runner_, graph_, from < 0 ? nullptr : cuts_[static_cast<std::size_t>(from)].second, cuts_[to].second};
  };
  const std::vector<std::size_t> kept = proven_cuts(cuts_.size(), [&](std::ptrdiff_t from, std::size_t to) {
    klens::matrix<float> alone;
    const klens::matrix<float>& entry = exits[from < 0 ? to : static_cast<std::size_t>(from)];
    piece_between(from, to).run(*runner_, graph_, entry, alone);
    return difference_of(alone, exits[to]);
  });
  if (kept.empty() || kept.back() + 1 != cuts_.size())
    throw uncut_error{"what it computes depends on more than llama.cpp's graph of it says"};
  std::ptrdiff_t before = -1;
  for (const std::size_t cut : kept) {
    pieces_.push_back(piece_between(before, cut));
    if (static_cast<std::ptrdiff_t>(cut) > before + 1)
      remarks_.push_back(cuts_[static_cast<std::size_t>(before + 1)].first + " to " + cuts_[cut].first +
                         ": this part of the model does not do in pieces what it does in the whole; it is one stage, and a "
                         "candidate in it runs all of it");
    before = static_cast<std::ptrdiff_t>(cut);
  }
}

void staged_model::set_costs() {
  costs_.assign(stages() + 1, 0);
  for (const auto& each : weights_->matrices())
    for (const paged_matrix::copy& copy : each->copies) {
      const auto products = static_cast<double>(each->rows * each->columns);
      if (each.get() == head_matrix_) costs_.back() = products;
      for (std::size_t stage = 0; stage < stages(); ++stage)
        if (copy.use != matrix_use::lookup && pieces_[stage].reads(copy.tensor)) costs_[stage] += products;
    }
}

void staged_model::advance(std::span<const std::int32_t> tokens, std::size_t stage, klens::matrix<float>& stream) {
  graph_.set_tokens(tokens);
  pieces_[stage].run(*runner_, graph_, stream, stream);
}

klens::matrix<float> staged_model::logits(const klens::matrix<float>& rows) {
  const std::lock_guard lock{one_at_a_time_};
  const auto at_once = static_cast<Eigen::Index>(head_graph_.length());
  klens::matrix<float> entries(rows.rows(), product_->src[1]->ne[0]), logits(rows.rows(), product_->ne[0]), part;
  for (Eigen::Index first = 0; first < rows.rows(); first += at_once) {
    const Eigen::Index count = std::min(at_once, rows.rows() - first);
    to_head_->run(*runner_, head_graph_, rows.middleRows(first, count), part);
    entries.middleRows(first, count) = part;
  }
  runner_->multiply(entries, *head_matrix_, logits);
  if (!after_head_) return logits;
  for (Eigen::Index first = 0; first < rows.rows(); first += at_once) {
    const Eigen::Index count = std::min(at_once, rows.rows() - first);
    after_head_->run(*runner_, head_graph_, logits.middleRows(first, count), part);
    logits.middleRows(first, count) = part;
  }
  return logits;
}

std::vector<klens::layer> staged_model::layers() {
  std::vector<klens::layer> all = weights_->layers();
  for (std::size_t m = 0; m < all.size(); ++m) {
    const paged_matrix& matrix = *weights_->matrices()[m];
    std::set<std::size_t> used;
    for (const paged_matrix::copy& copy : matrix.copies)
      for (std::size_t stage = 0; stage < stages(); ++stage)
        if (pieces_[stage].reads(copy.tensor)) used.insert(stage);
    if (&matrix == head_matrix_) used.insert(stages());
    all[m].stage = used.empty() ? 0 : *used.begin();
    all[m].last_stage = used.empty() ? stages() : *used.rbegin();
    if (matrix.name == "token_embd.weight") all[m].note = tied_note_;
  }
  std::ranges::stable_sort(all, {}, [](const klens::layer& each) {
    return std::pair{block_in(each.name), place_in_block(each.name)};
  });
  return all;
}

}  // namespace llama_adapter

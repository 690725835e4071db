#include "ir_model.hpp"

namespace openvino_adapter {
namespace {

constexpr const char* device = "CPU";

}  // namespace

ir_model::ir_model(const checked_ir& ir, std::size_t threads) : untouched_{ir} {
  checked_ir open = ir;
  open.model = ir.model->clone();
  weights_ = turn_weights_into_inputs(*open.model, ir.path);
  session_.emplace(open, device, exact_settings(threads), threads);
  for (const ir_weight& each : weights_) session_->set_input(each.input, each.values);
}

std::vector<klens::layer> ir_model::layers() {
  std::vector<klens::layer> all;
  for (ir_weight& each : weights_) all.push_back(each.as_layer());
  return all;
}

klens::matrix<float> ir_model::logits_at(std::span<const std::int32_t> tokens, std::size_t length, std::size_t position) {
  const klens::matrix<float> all = logits(tokens, length);
  klens::matrix<float> rows(static_cast<Eigen::Index>(tokens.size() / length), all.cols());
  for (Eigen::Index s = 0; s < rows.rows(); ++s)
    rows.row(s) = all.row(s * static_cast<Eigen::Index>(length) + static_cast<Eigen::Index>(position));
  return rows;
}

ir_session& ir_model::by_default() {
  if (!by_default_) by_default_.emplace(untouched_, device, ov::AnyMap{}, 1);
  return *by_default_;
}

}  // namespace openvino_adapter

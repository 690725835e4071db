#include "stored_matrix.hpp"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstring>

#include "lanes.hpp"

namespace programs {
namespace {

std::atomic<std::size_t> bytes_lent{0};  // by all matrices

/// Where much is lent, what is read of files does not stay in memory meanwhile: a model then takes no more than without.
bool much_is_lent() { return bytes_lent > std::size_t{32} << 20; }

}  // namespace

stored_matrix::lent_rows::lent_rows(Eigen::Index from, Eigen::Index rows, Eigen::Index columns)
    : first(from), values(rows, columns) {
  bytes_lent += static_cast<std::size_t>(values.size()) * sizeof(float);
}
stored_matrix::lent_rows::~lent_rows() { bytes_lent -= static_cast<std::size_t>(values.size()) * sizeof(float); }

stored_matrix::stored_matrix(std::shared_ptr<const klens::safetensors> file, const klens::stored_tensor& tensor,
                             Eigen::Index rows, Eigen::Index columns)
    : file_(std::move(file)),
      bytes_(tensor.bytes.data()),
      type_(tensor.dtype == "F32"   ? element::f32
            : tensor.dtype == "F16" ? element::f16
                                    : element::bf16),
      rows_(rows),
      columns_(columns) {
  assert(tensor.elements() == static_cast<std::size_t>(rows * columns));
}

void stored_matrix::read_own(Eigen::Index first, klens::matrix_ref<float> into) const {
  assert(first >= 0 && first + into.rows() <= rows_ && into.cols() == columns_);
  if (file_ == nullptr) {
    into = own_.middleRows(first, into.rows());
    return;
  }
  const auto columns = static_cast<std::size_t>(columns_), width = std::size_t{type_ == element::f32 ? 4u : 2u};
  constexpr std::size_t piece = 1 << 20;
  const std::byte* const start = bytes_ + static_cast<std::size_t>(first) * columns * width;
  const bool gives_back = much_is_lent();
  std::size_t given_back = 0;
  for (Eigen::Index r = 0; r < into.rows(); ++r) {
    const std::size_t before = static_cast<std::size_t>(r) * columns * width, after = before + columns * width;
    float* const to = klens::row(into, r).data();
    if (type_ == element::f32)
      std::memcpy(to, start + before, columns * sizeof(float));
    else if (type_ == element::f16)
      kernels::floats_of_half(start + before, to, columns);
    else
      kernels::floats_of_bfloat16(start + before, to, columns);
    // While rows are lent, forwards read those floats: the file's pages leave memory as the floats enter it.
    const bool last = gives_back && r + 1 == into.rows() && r > 0;
    if ((last || after - given_back >= piece) && (gives_back || !lent_.empty())) {
      file_->release({start + given_back, after - given_back});
      given_back = after;
    }
  }
}

void stored_matrix::read(Eigen::Index first, klens::matrix_ref<float> into) const {
  const Eigen::Index end = first + into.rows();
  for (const lent_rows& each : lent_)
    if (each.first <= first && end <= each.first + each.values.rows()) {
      into = each.values.middleRows(first - each.first, into.rows());
      return;
    }
  read_own(first, into);
  for (const lent_rows& each : lent_) {
    const Eigen::Index from = std::max(first, each.first), to = std::min(end, each.first + each.values.rows());
    if (from < to) into.middleRows(from - first, to - from) = each.values.middleRows(from - each.first, to - from);
  }
}

klens::matrix_ref<float> stored_matrix::lend(Eigen::Index first, Eigen::Index rows) {
  klens::matrix_ref<float> lent = lent_.emplace_back(first, rows, columns_).values;
  if (file_ != nullptr && much_is_lent())
    for (const klens::stored_tensor& each : file_->tensors()) file_->release(each.bytes);  // before the floats are written
  return lent;
}

void stored_matrix::take_back(Eigen::Index first, Eigen::Index rows) noexcept {
  const auto at =
      std::ranges::find_if(lent_, [&](const lent_rows& each) { return each.first == first && each.values.rows() == rows; });
  if (at != lent_.end()) lent_.erase(at);
}

}  // namespace programs

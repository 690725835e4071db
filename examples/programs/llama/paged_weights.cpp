#include "paged_weights.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <klens/error.hpp>
#include <klens/parallel_for.hpp>
#include <klens/quant/scheme.hpp>
#include <map>
#include <utility>

#include "memory_pages.hpp"

namespace llama_adapter {
namespace {

constexpr std::size_t rows_at_once = 64;

void describe_as(ggml_tensor& tensor, const paged_matrix::packed& now) {
  tensor.type = now.type;
  tensor.nb[0] = ggml_type_size(now.type);
  tensor.nb[1] = ggml_row_size(now.type, tensor.ne[0]);
  for (int d = 2; d < GGML_MAX_DIMS; ++d) tensor.nb[d] = tensor.nb[d - 1] * static_cast<std::size_t>(tensor.ne[d - 1]);
  tensor.data = const_cast<std::byte*>(now.data);  // NOLINT: a graph only reads its weights
}

// Calls `work(first, count)` for parts of so many rows.
void in_parts(std::size_t rows, std::size_t threads, const std::function<void(std::size_t, std::size_t)>& work) {
  klens::parallel_for(threads, (rows + rows_at_once - 1) / rows_at_once, [&](std::size_t part) {
    const std::size_t first = part * rows_at_once;
    work(first, std::min(rows_at_once, rows - first));
  });
}

}  // namespace

void unpack_rows(const paged_matrix::packed& from, std::size_t columns, std::size_t first, klens::matrix_ref<float> into) {
  const std::size_t row_bytes = ggml_row_size(from.type, static_cast<std::int64_t>(columns));
  for (Eigen::Index r = 0; r < into.rows(); ++r) {
    const std::byte* const stored = from.data + (first + static_cast<std::size_t>(r)) * row_bytes;
    if (from.type == GGML_TYPE_F32)
      std::memcpy(&into(r, 0), stored, row_bytes);
    else
      ggml_get_type_traits(from.type)->to_float(stored, &into(r, 0), static_cast<std::int64_t>(columns));
  }
}

paged_weights::paged_weights(std::vector<paged_matrix> matrices, packers packer_of, std::size_t threads)
    : packer_of_{std::move(packer_of)}, threads_{threads} {
  std::map<int, std::size_t> floats_of_block;
  std::size_t largest = 0;
  for (paged_matrix& each : matrices) {
    for (paged_matrix::copy& copy : each.copies) {
      if (copy.use == matrix_use::other) kept_ += each.rows * each.columns;
      if (copy.use != matrix_use::block) continue;
      std::size_t& floats = floats_of_block[each.block];
      copy.slot = floats;
      floats += each.rows * each.columns;
      largest = std::max(largest, floats);
    }
    paged_matrix& made = *matrices_.emplace_back(std::make_unique<paged_matrix>(std::move(each)));
    const std::size_t bytes = made.rows * ggml_row_size(made.file.type, static_cast<std::int64_t>(made.columns));
    made.is_mapped = is_mapped_file(made.file.data, bytes);
    if (!made.is_mapped) continue;
    mapped_begin_ = mapped_begin_ ? std::min(mapped_begin_, made.file.data) : made.file.data;
    mapped_end_ = std::max(mapped_end_, made.file.data + bytes);
  }
  if (!is_mapped_file(mapped_begin_, static_cast<std::size_t>(mapped_end_ - mapped_begin_)))  // what lies between is unknown
    for (const auto& each : matrices_) each->is_mapped = false;
  for (const auto& each : matrices_) leave(*each, 0, each->rows);  // llama.cpp has read all of it
  arena_.resize(largest + kept_);
  std::size_t next = largest;
  for (const auto& each : matrices_) {
    for (paged_matrix::copy& copy : each->copies)
      if (copy.use == matrix_use::other) {
        copy.slot = next;
        next += each->rows * each->columns;
      }
    place(*each);
  }
}

paged_weights::~paged_weights() {
  for (const auto& each : matrices_)
    for (const paged_matrix::copy& copy : each->copies) describe_as(*copy.tensor, each->file);
}

std::optional<int> paged_weights::block_of(const ggml_tensor* source) const {
  for (const auto& each : matrices_)
    for (const paged_matrix::copy& copy : each->copies)
      if (copy.tensor == source && copy.use == matrix_use::block) return each->block;
  return std::nullopt;
}

const paged_matrix* paged_weights::find(const ggml_tensor* tensor) const {
  for (const auto& each : matrices_)
    for (const paged_matrix::copy& copy : each->copies)
      if (copy.tensor == tensor) return each.get();
  return nullptr;
}

void paged_weights::fill_slot(const paged_matrix& from, std::size_t slot) {
  in_parts(from.rows, threads_, [&](std::size_t first, std::size_t count) {
    unpack(from, first,
           Eigen::Map<klens::matrix<float>>{arena_.data() + slot + first * from.columns, static_cast<Eigen::Index>(count),
                                            static_cast<Eigen::Index>(from.columns)});
  });
  leave(from, 0, from.rows);
}

void paged_weights::unpack(const paged_matrix& from, std::size_t first, klens::matrix_ref<float> into) const {
  unpack_rows(from.current, from.columns, first, into);
}

void paged_weights::leave(const paged_matrix& of, std::size_t first, std::size_t count) const {
  if (!of.is_mapped) return;
  const std::size_t row_bytes = ggml_row_size(of.file.type, static_cast<std::int64_t>(of.columns));
  // Where one page of a file is read the system may map 2 MB around it.
  constexpr std::ptrdiff_t around = 2 << 20;
  const std::byte *begin = of.file.data + first * row_bytes, *end = begin + count * row_bytes;
  begin -= std::min(around, begin - mapped_begin_);
  end += std::min(around, mapped_end_ - end);
  give_back_pages(begin, static_cast<std::size_t>(end - begin));
}

// Gives every copy the memory that it has from now on.
void paged_weights::place(paged_matrix& matrix) {
  for (const paged_matrix::copy& copy : matrix.copies)
    if (copy.use == matrix_use::lookup)
      describe_as(*copy.tensor, matrix.current);
    else if (copy.use != matrix_use::head)
      describe_as(*copy.tensor, {GGML_TYPE_F32, reinterpret_cast<const std::byte*>(arena_.data() + copy.slot)});
  for (const paged_matrix::copy& copy : matrix.copies)
    if (copy.use == matrix_use::other) fill_slot(matrix, copy.slot);
}

void paged_weights::load(int block) {
  if (loaded_ == block) return;
  loaded_.reset();
  for (const auto& each : matrices_)
    if (each->block == block)
      for (const paged_matrix::copy& copy : each->copies)
        if (copy.use == matrix_use::block) fill_slot(*each, copy.slot);
  loaded_ = block;
}

// After the current weights of a matrix have become others.
void paged_weights::refresh(paged_matrix& matrix) {
  place(matrix);
  if (loaded_ && loaded_ == matrix.block)
    for (const paged_matrix::copy& copy : matrix.copies)
      if (copy.use == matrix_use::block) fill_slot(matrix, copy.slot);
}

klens::weight_change paged_weights::change(paged_matrix& matrix, const klens::scheme& as, std::size_t threads) {
  const std::unique_ptr<row_packer> packer = packer_of_(matrix, as);
  const paged_matrix::packed made{packer->type(), nullptr};
  const std::size_t row_bytes = ggml_row_size(made.type, static_cast<std::int64_t>(matrix.columns));
  matrix.changed.resize(matrix.rows * row_bytes);
  std::vector<klens::weight_change> parts((matrix.rows + rows_at_once - 1) / rows_at_once);
  in_parts(matrix.rows, threads, [&](std::size_t first, std::size_t count) {
    klens::weight_change& part = parts[first / rows_at_once];
    klens::matrix<float> own(1, static_cast<Eigen::Index>(matrix.columns)), kept = own;
    for (std::size_t r = first; r < first + count; ++r) {
      unpack_rows(matrix.file, matrix.columns, r, own);
      const std::span<std::byte> packed = std::span(matrix.changed).subspan(r * row_bytes, row_bytes);
      packer->pack({own.data(), matrix.columns}, r, packed);
      packer->unpack(packed, {kept.data(), matrix.columns});
      part.differs = part.differs || std::memcmp(own.data(), kept.data(), matrix.columns * sizeof(float)) != 0;
      part.error.energy += own.cast<double>().squaredNorm();
      part.error.squared_error += (kept.cast<double>() - own.cast<double>()).squaredNorm();
    }
    leave(matrix, first, count);  // so that what is kept takes their place
  });
  klens::weight_change all;
  for (const klens::weight_change& each : parts) {
    all.error += each.error;
    all.differs = all.differs || each.differs;
  }
  matrix.current = {made.type, matrix.changed.data()};
  refresh(matrix);
  return all;
}

std::vector<klens::layer> paged_weights::layers() {
  std::vector<klens::layer> all;
  for (const auto& each : matrices_) {
    paged_matrix* const of = each.get();
    const auto load = [of](Eigen::Index first, klens::matrix_ref<float> into) {
      unpack_rows(of->file, of->columns, static_cast<std::size_t>(first), into);
    };
    const auto lend = [this, of]() -> klens::matrix_ref<float> {
      of->lent.resize(static_cast<Eigen::Index>(of->rows), static_cast<Eigen::Index>(of->columns));
      unpack_rows(of->file, of->columns, 0, of->lent);
      of->current = {GGML_TYPE_F32, reinterpret_cast<const std::byte*>(of->lent.data())};
      for (const paged_matrix::copy& copy : of->copies)  // the floats themselves: whoever borrows them writes when he likes
        if (copy.use != matrix_use::head) describe_as(*copy.tensor, of->current);
      return of->lent;
    };
    const auto take_back = [this, of] {
      of->current = of->file;
      of->changed = {};
      of->lent.resize(0, 0);
      refresh(*of);
    };
    const auto change_it = [this, of](const klens::scheme& as, std::size_t threads) { return change(*of, as, threads); };
    all.emplace_back(of->name, of->rows, of->columns, klens::lent_weights{load, lend, take_back, change_it});
  }
  return all;
}

}  // namespace llama_adapter

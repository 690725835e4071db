#pragma once

#include <filesystem>
#include <initializer_list>
#include <klens/io/safetensors.hpp>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "packed.hpp"
#include "parameter.hpp"

namespace programs {

/// The tensors of a model folder: model.safetensors, or the shards that model.safetensors.index.json names; those that
/// klens packed are unpacked. Weights of matrix products stay in the mapped file; the others are converted to float.
/// Throws     klens::file_error, starting with the file's path: a missing, surplus or misshapen tensor, a tensor in two shards,
///            a shard that is not there or not in the folder, a dtype other than F32, F16 and BF16, a value that is NaN or
///            infinite, a packed tensor that is not what its schemes and config.json ask for.
class checkpoint {
 public:
  explicit checkpoint(const std::filesystem::path& folder);

  /// What is taken from here on belongs to the next residual step of the model.
  void begin_stage() noexcept { ++stage_; }

  /// A tensor of exactly this shape; its memory stays where it is as long as the parameters do.
  [[nodiscard]] parameter* take(const std::string& name, std::initializer_list<std::size_t> shape);
  /// The same, as the weight of a matrix product.
  [[nodiscard]] parameter* take_weight(const std::string& name, std::size_t out, std::size_t in,
                                       std::vector<row_range> parts = {});
  /// The same for a tensor [out x in x height x width] of a convolution: a weight [out x in * height * width].
  [[nodiscard]] parameter* take_filters(const std::string& name, std::size_t out, std::size_t in, std::size_t height,
                                        std::size_t width);
  /// Weights [out x in] of several products that the file stacks in one tensor [count x out x in]; `parts` are the rows of each.
  [[nodiscard]] parameter* take_stack(const std::string& name, std::size_t count, std::size_t out, std::size_t in,
                                      const std::vector<row_range>& parts = {});
  /// A vector, or null where `wanted` is false.
  [[nodiscard]] parameter* take_if(bool wanted, const std::string& name, std::size_t size);

  [[nodiscard]] bool contains(std::string_view name) const { return places_.contains(name); }
  /// True where both are there, with the same type, shape and bits.
  [[nodiscard]] bool same(std::string_view a, std::string_view b) const;
  /// A tensor as the file has it, or null.
  [[nodiscard]] const klens::stored_tensor* find(std::string_view name) const;
  /// Leaves a tensor out knowingly.
  void skip(std::string_view name);

  /// Of a model of text and more: what belongs to the text model is found under the names that it has alone, all else is left
  /// out.
  void choose_text_model();
  /// Leaves out the tensors whose names begin so.
  void leave_out(std::string_view prefix);
  /// What was left out in this way: "vision_tower (96 tensors)".
  [[nodiscard]] std::vector<std::string> left_out() const;

  /// Names the first tensor that nobody took, and gives away the parameters.
  [[nodiscard]] std::vector<std::unique_ptr<parameter>> finish();

 private:
  struct place {
    std::shared_ptr<const klens::safetensors> file;
    const klens::stored_tensor* tensor;
    bool taken = false;
  };
  void add(const std::shared_ptr<const klens::safetensors>& file);
  [[nodiscard]] parameter* take(const std::string& name, std::initializer_list<std::size_t> shape, bool multiplies,
                                bool stacked = false);
  void read_rows(const place& from, std::size_t rows, std::size_t columns, parameter& into) const;
  void unpack_rows(const place& from, const std::vector<packed_rows>& ranges, std::size_t rows, std::size_t columns,
                   parameter& into) const;

  std::filesystem::path folder_;
  std::map<std::string, place, std::less<>> places_;
  packed_tensors packed_;
  std::vector<std::unique_ptr<parameter>> parameters_;
  std::map<std::string, std::size_t> left_out_;  // tensors of each prefix
  std::size_t stage_ = 0;
};

}  // namespace programs

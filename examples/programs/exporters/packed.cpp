#include "exporters/packed.hpp"

#include <unistd.h>

#include <algorithm>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <klens/io/plan_json.hpp>
#include <klens/io/safetensors.hpp>
#include <klens/quant/packing.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/weight_guard.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "../engine/checkpoint.hpp"
#include "../engine/packed.hpp"

namespace programs {
namespace {

// A folder that is renamed to its name when it is complete, and vanishes where it is not.
class new_folder {
 public:
  explicit new_folder(std::filesystem::path target) : target_{std::move(target)} {
    expect_new_folder(target_);
    partial_ = target_;
    partial_ += ".partial-" + std::to_string(::getpid());
    std::error_code failed;
    if (!std::filesystem::create_directory(partial_, failed))
      throw klens::file_error{target_.string() + ": cannot be created; create its folder first, or choose another place"};
  }
  new_folder(const new_folder&) = delete;
  new_folder& operator=(const new_folder&) = delete;
  ~new_folder() {
    std::error_code ignored;
    if (!partial_.empty()) std::filesystem::remove_all(partial_, ignored);
  }

  [[nodiscard]] std::filesystem::path operator/(const char* name) const { return partial_ / name; }
  void commit() {
    std::error_code failed;
    std::filesystem::rename(partial_, target_, failed);
    if (failed) throw klens::file_error{target_.string() + ": cannot be put in place (" + failed.message() + ")"};
    partial_.clear();
  }

 private:
  std::filesystem::path target_, partial_;
};

// A tensor of the plan, in the parts that have a scheme of their own: one, or the ranges of a fused one in their order.
struct packed_part {
  weight rows;
  klens::scheme scheme;
};

std::vector<std::byte> packed_bytes(const std::vector<packed_part>& parts, std::span<const klens::layer> layers) {
  std::vector<std::byte> bytes;
  for (const packed_part& each : parts) {
    klens::layer of = each.rows.as_layer();
    const auto known = std::ranges::find(layers, of.name, &klens::layer::name);
    if (known != layers.end()) of.inputs = known->inputs;
    const klens::packer packer{klens::scheme_for(of, each.scheme)};
    const klens::matrix<float> weights = of.load();
    const std::size_t row_bytes = packer.bytes(static_cast<std::size_t>(weights.cols()));
    for (Eigen::Index r = 0; r < weights.rows(); ++r) {
      bytes.resize(bytes.size() + row_bytes);
      packer.pack(klens::row(weights, r), std::span(bytes).last(row_bytes));
    }
  }
  return bytes;
}

}  // namespace

void expect_new_folder(const std::filesystem::path& target) {
  if (std::filesystem::exists(target))
    throw klens::file_error{target.string() + ": exists; name a folder that is not there yet"};
}

void expect_packable(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / packed_file_name))
    throw klens::file_error{folder.string() + ": is packed already; pack the model that it was made from"};
}

void write_packed(const std::filesystem::path& target, const klens::plan& plan, const std::filesystem::path& folder,
                  model& source, std::span<const klens::layer> layers) {
  expect_packable(folder);
  const checkpoint stored{folder};
  std::map<std::string, std::vector<packed_part>> parts;
  std::vector<std::string> kept;
  std::map<std::string, std::size_t> left_out_of;  // parts of each tensor that the plan does not have
  const std::vector<weight> split = source.weights(true), small = source.small_weights();
  for (const weight& whole : source.weights()) {
    std::vector<packed_part>& own = parts[whole.tensor];
    std::size_t& left_out = left_out_of[whole.tensor];
    if (const std::string* scheme = plan.scheme_of(whole.name)) {
      own.push_back({whole, *scheme});
      continue;
    }
    bool has_parts = false;
    for (const weight& each : split) {
      if (each.tensor != whole.tensor || !each.name.starts_with(whole.name + "[")) continue;
      has_parts = true;
      const std::string* scheme = plan.scheme_of(each.name);
      scheme ? own.push_back({each, *scheme}) : void(++left_out);
    }
    if (!has_parts) ++left_out;
  }
  for (const auto& [tensor, left_out] : left_out_of) {
    if (parts[tensor].empty())
      kept.push_back(tensor);
    else if (left_out > 0)
      throw klens::argument_error{"packed: the plan has some parts of " + tensor +
                                  " and leaves others out; exclude all or none"};
  }
  for (const weight& each : small) {
    const std::string* scheme = plan.scheme_of(each.name);
    scheme ? parts[each.tensor].push_back({each, *scheme}) : kept.push_back(each.tensor);
  }

  new_folder made{target};
  nlohmann::json tensors = nlohmann::json::object();
  std::vector<std::vector<std::byte>> memory;
  std::vector<klens::stored_tensor> written;
  for (const auto& [name, ranges] : parts) {
    if (ranges.empty()) continue;
    for (const packed_part& each : ranges)
      tensors[name].push_back({{"scheme", each.scheme.stored_as()}, {"rows", each.rows.rows}});
    memory.push_back(packed_bytes(ranges, layers));
    written.push_back({name, "U8", {memory.back().size()}, memory.back()});
  }
  for (const std::string& name : kept) written.push_back(*stored.find(name));
  klens::write_safetensors(made / "model.safetensors", written);
  klens::write_file(made / packed_file_name,
                    nlohmann::json{{"format", "klens-packed"}, {"version", 1}, {"tensors", tensors}}.dump(1) + "\n");
  klens::write_plan(made / "plan.json", plan);
  std::filesystem::copy_file(folder / "config.json", made / "config.json");
  made.commit();
}

}  // namespace programs

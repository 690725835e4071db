#include "checkpoint.hpp"

#include <algorithm>
#include <cmath>
#include <klens/error.hpp>
#include <set>

#include "config.hpp"

namespace hybrid {
namespace {

/// The shards that an index names, each one a plain file name in the index's folder.
std::set<std::string> shards_of(const std::filesystem::path& index, std::map<std::string, std::string>& shard_of) {
  const nlohmann::json fields = read_json(index);
  const auto map = fields.is_object() ? fields.find("weight_map") : fields.end();
  if (map == fields.end() || !map->is_object() || map->empty())
    throw klens::file_error(index.string() + ": field 'weight_map' is missing, empty or no object; fetch the file again");
  std::set<std::string> shards;
  for (const auto& [name, shard] : map->items()) {
    const std::string file = shard.is_string() ? shard.get<std::string>() : "";
    const bool readable = std::ranges::none_of(file, [](unsigned char c) { return c < 0x20 || c == 0x7f || c == '/'; });
    if (file.empty() || file == "." || file == ".." || file.size() > 255 || !readable)
      throw klens::file_error(index.string() + ": weight_map entry " + klens::detail::name_text(name) +
                              " is no file name; it must name a file in the same folder");
    shards.insert(file);
    shard_of[name] = file;
  }
  return shards;
}

}  // namespace

checkpoint::checkpoint(const std::filesystem::path& folder) : folder_(folder) {
  const std::filesystem::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  if (std::filesystem::exists(single)) {
    files_.push_back(std::make_unique<klens::safetensors>(single));
    add(*files_.back());
    return;
  }
  if (!std::filesystem::exists(index))
    throw klens::file_error(
        folder.string() +
        ": has neither model.safetensors nor model.safetensors.index.json; convert the weights to safetensors");
  std::map<std::string, std::string> shard_of;
  for (const std::string& shard : shards_of(index, shard_of)) {
    files_.push_back(std::make_unique<klens::safetensors>(folder / shard));
    add(*files_.back());
  }
  for (const auto& [name, shard] : shard_of) {
    const auto at = places_.find(name);
    if (at == places_.end() || at->second.file->path() != folder / shard)
      throw klens::file_error((folder / shard).string() + ": has no tensor " + klens::detail::name_text(name) + ", which " +
                              index.filename().string() + " says it has; fetch both again");
  }
}

void checkpoint::add(const klens::safetensors& file) {
  for (const klens::stored_tensor& each : file.tensors())
    if (!places_.emplace(each.name, place{&file, &each}).second)
      throw klens::file_error(file.path().string() + ": has tensor " + klens::detail::name_text(each.name) +
                              ", which another shard has too; keep one of them");
}

parameter* checkpoint::take(const std::string& name, std::initializer_list<std::size_t> shape) {
  const auto at = places_.find(name);
  if (at == places_.end())
    throw klens::file_error(folder_.string() + ": has no tensor '" + name + "'; is config.json that of these weights?");
  const klens::safetensors& file = *at->second.file;
  const klens::stored_tensor& tensor = *at->second.tensor;
  if (!std::ranges::equal(tensor.shape, shape))
    throw klens::file_error(file.path().string() + ": tensor '" + name + "' is " + klens::shape_text(tensor.shape) +
                            ", config.json asks for " + klens::shape_text({shape.begin(), shape.size()}) +
                            "; is it that of these weights?");
  file.copy_floats(tensor, 0,
                   {});  // refuses other types, whose shapes say nothing about their size, before memory is asked for
  at->second.taken = true;
  auto owned = std::make_unique<parameter>();
  owned->name = name;
  owned->shape.assign(shape);
  owned->stage = stage_;
  const bool flat = shape.size() < 2;
  const std::size_t rows = flat ? 1 : *shape.begin();
  owned->values.resize(static_cast<Eigen::Index>(rows),
                       static_cast<Eigen::Index>(tensor.elements() / std::max<std::size_t>(rows, 1)));
  const auto columns = static_cast<std::size_t>(owned->values.cols());
  const std::size_t row_bytes = tensor.bytes.size() / std::max<std::size_t>(rows, 1);
  std::size_t released = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    const std::span<float> row = klens::row(owned->values, static_cast<Eigen::Index>(r));
    file.copy_floats(tensor, r * columns, row);
    if (!std::ranges::all_of(row, [](float each) { return std::isfinite(each); }))
      throw klens::file_error(file.path().string() + ": tensor '" + name + "' holds a NaN or an infinity in row " +
                              std::to_string(r) + "; nothing can be measured on it");
    if (const std::size_t read = (r + 1) * row_bytes; read - released >= (std::size_t{1} << 20)) {
      file.release(tensor.bytes.first(read));
      released = read;
    }
  }
  file.release(tensor.bytes);
  parameters_.push_back(std::move(owned));
  return parameters_.back().get();
}

parameter* checkpoint::take_weight(const std::string& name, std::size_t out, std::size_t in, std::vector<row_range> parts) {
  parameter* const weight = take(name, {out, in});
  weight->multiplies = true;
  weight->parts = std::move(parts);
  return weight;
}

parameter* checkpoint::take_if(bool wanted, const std::string& name, std::size_t size) {
  return wanted ? take(name, {size}) : nullptr;
}

bool checkpoint::same(std::string_view a, std::string_view b) const {
  const auto first = places_.find(a), second = places_.find(b);
  if (first == places_.end() || second == places_.end()) return false;
  const klens::stored_tensor &x = *first->second.tensor, &y = *second->second.tensor;
  const bool equal = x.dtype == y.dtype && x.shape == y.shape && std::ranges::equal(x.bytes, y.bytes);
  first->second.file->release(x.bytes);
  second->second.file->release(y.bytes);
  return equal;
}

void checkpoint::skip(std::string_view name) {
  if (const auto at = places_.find(name); at != places_.end()) at->second.taken = true;
}

std::vector<std::unique_ptr<parameter>> checkpoint::finish() {
  for (const auto& [name, each] : places_)
    if (!each.taken && !name.ends_with("rotary_emb.inv_freq"))  // older files keep what follows from the config
      throw klens::file_error(each.file->path().string() + ": has a tensor " + klens::detail::name_text(name) +
                              " that the model of config.json does not use; is it that of these weights?");
  return std::move(parameters_);
}

}  // namespace hybrid

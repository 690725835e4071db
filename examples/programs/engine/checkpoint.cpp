#include "checkpoint.hpp"

#include <algorithm>
#include <cmath>
#include <klens/error.hpp>
#include <klens/quant/packing.hpp>
#include <klens/quant/scheme.hpp>
#include <set>

#include "config.hpp"

namespace programs {
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

/// Gives back the pages of a tensor as they are read: what counts in memory is then what forwards read.
class page_returner {
 public:
  page_returner(const klens::safetensors& file, std::span<const std::byte> bytes) : file_{&file}, bytes_{bytes} {}
  void read_until(std::size_t end) {
    if (end - returned_ < (std::size_t{1} << 20) && end != bytes_.size()) return;
    file_->release(bytes_.first(end));
    returned_ = end;
  }

 private:
  const klens::safetensors* file_;
  std::span<const std::byte> bytes_;
  std::size_t returned_ = 0;
};

}  // namespace

checkpoint::checkpoint(const std::filesystem::path& folder) : folder_(folder), packed_(read_packed(folder)) {
  const std::filesystem::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  if (std::filesystem::exists(single)) {
    add(std::make_shared<const klens::safetensors>(single));
    return;
  }
  if (!std::filesystem::exists(index))
    throw klens::file_error(
        folder.string() +
        ": has neither model.safetensors nor model.safetensors.index.json; convert the weights to safetensors");
  std::map<std::string, std::string> shard_of;
  for (const std::string& shard : shards_of(index, shard_of)) add(std::make_shared<const klens::safetensors>(folder / shard));
  for (const auto& [name, shard] : shard_of) {
    const auto at = places_.find(name);
    if (at == places_.end() || at->second.file->path() != folder / shard)
      throw klens::file_error((folder / shard).string() + ": has no tensor " + klens::detail::name_text(name) + ", which " +
                              index.filename().string() + " says it has; fetch both again");
  }
}

void checkpoint::add(const std::shared_ptr<const klens::safetensors>& file) {
  for (const klens::stored_tensor& each : file->tensors())
    if (!places_.emplace(each.name, place{file, &each}).second)
      throw klens::file_error(file->path().string() + ": has tensor " + klens::detail::name_text(each.name) +
                              ", which another shard has too; keep one of them");
}

parameter* checkpoint::take(const std::string& name, std::initializer_list<std::size_t> shape) {
  return take(name, shape, false);
}

parameter* checkpoint::take(const std::string& name, std::initializer_list<std::size_t> shape, bool multiplies, bool stacked) {
  const auto at = places_.find(name);
  if (at == places_.end())
    throw klens::file_error(folder_.string() + ": has no tensor '" + name + "'; is config.json that of these weights?");
  at->second.taken = true;
  auto owned = std::make_unique<parameter>();
  owned->name = at->second.tensor->name;
  owned->shape.assign(shape);
  owned->stage = stage_;
  owned->multiplies = multiplies;
  const std::size_t rows = owned->shape.size() < 2 ? 1 : owned->shape.front() * (stacked ? owned->shape[1] : 1);
  std::size_t columns = 1;
  for (std::size_t i = owned->shape.size() < 2 ? 0 : stacked ? 2 : 1; i < owned->shape.size(); ++i) columns *= owned->shape[i];
  const auto packed = packed_.find(owned->name);
  if (packed != packed_.end())
    unpack_rows(at->second, packed->second, rows, columns, *owned);
  else
    read_rows(at->second, rows, columns, *owned);
  parameters_.push_back(std::move(owned));
  return parameters_.back().get();
}

void checkpoint::read_rows(const place& from, std::size_t rows, std::size_t columns, parameter& into) const {
  const klens::safetensors& file = *from.file;
  const klens::stored_tensor& tensor = *from.tensor;
  if (tensor.shape != into.shape)
    throw klens::file_error(file.path().string() + ": tensor '" + into.name + "' is " + klens::shape_text(tensor.shape) +
                            ", config.json asks for " + klens::shape_text(into.shape) + "; is it that of these weights?");
  file.copy_floats(tensor, 0,
                   {});  // refuses other types, whose shapes say nothing about their size, before memory is asked for
  const auto height = static_cast<Eigen::Index>(rows), width = static_cast<Eigen::Index>(columns);
  if (into.multiplies)
    into.weights = stored_matrix(from.file, tensor, height, width);
  else
    into.values.resize(height, width);
  klens::matrix<float> one(into.multiplies ? 1 : 0, width);
  page_returner pages{file, tensor.bytes};
  for (std::size_t r = 0; r < rows; ++r) {
    const std::span<float> row = into.multiplies ? klens::row(one, 0) : klens::row(into.values, static_cast<Eigen::Index>(r));
    if (into.multiplies)
      into.weights.read(static_cast<Eigen::Index>(r), one);
    else
      file.copy_floats(tensor, r * columns, row);
    if (!std::ranges::all_of(row, [](float each) { return std::isfinite(each); }))
      throw klens::file_error(file.path().string() + ": tensor '" + into.name + "' holds a NaN or an infinity in row " +
                              std::to_string(r) + "; nothing can be measured on it");
    pages.read_until(tensor.bytes.size() / rows * (r + 1));
  }
}

void checkpoint::unpack_rows(const place& from, const std::vector<packed_rows>& ranges, std::size_t rows, std::size_t columns,
                             parameter& into) const {
  std::size_t listed = 0, bytes = 0;
  const auto refuse = [&](const std::string& problem) {
    throw klens::file_error(from.file->path().string() + ": packed tensor '" + into.name + "' " + problem +
                            "; write the folder again with klens plan --export packed");
  };
  // the sum of sizes comes before any memory is asked for: both files may say what they like
  const std::size_t available = from.tensor->bytes.size();
  for (const packed_rows& each : ranges) {
    const klens::scheme scheme{each.scheme};
    if (!scheme.stores(columns)) refuse("has rows of " + std::to_string(columns) + ", which " + each.scheme + " cannot store");
    if (each.rows > rows - listed) refuse("lists more rows than the " + std::to_string(rows) + " of config.json");
    listed += each.rows;
    bytes += scheme.bytes(each.rows, columns);
  }
  if (listed != rows) refuse("lists " + std::to_string(listed) + " rows, config.json asks for " + std::to_string(rows));
  if (from.tensor->dtype != "U8" || bytes != available)
    refuse("has " + std::to_string(available) + " bytes of " + from.tensor->dtype + ", its schemes ask for " +
           std::to_string(bytes) + " of U8");
  klens::matrix<float> unpacked(static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns));
  std::size_t first = 0;
  Eigen::Index row = 0;
  page_returner pages{*from.file, from.tensor->bytes};
  for (const packed_rows& each : ranges) {
    const klens::packer packer{klens::scheme{each.scheme}};
    const std::size_t row_bytes = packer.bytes(columns);
    for (std::size_t r = 0; r < each.rows; ++r, ++row, first += row_bytes) {
      const std::span<float> values = klens::row(unpacked, row);
      packer.unpack(from.tensor->bytes.subspan(first, row_bytes), values);
      if (!std::ranges::all_of(values, [](float value) { return std::isfinite(value); }))
        refuse("gives a NaN or an infinity in row " + std::to_string(row));
      pages.read_until(first + row_bytes);
    }
  }
  if (into.multiplies)
    into.weights = stored_matrix(std::move(unpacked));
  else
    into.values = std::move(unpacked);
}

parameter* checkpoint::take_weight(const std::string& name, std::size_t out, std::size_t in, std::vector<row_range> parts) {
  parameter* const weight = take(name, {out, in}, true);
  weight->parts = std::move(parts);
  return weight;
}

parameter* checkpoint::take_filters(const std::string& name, std::size_t out, std::size_t in, std::size_t height,
                                    std::size_t width) {
  return take(name, {out, in, height, width}, true);
}

parameter* checkpoint::take_stack(const std::string& name, std::size_t count, std::size_t out, std::size_t in,
                                  const std::vector<row_range>& parts) {
  parameter* const weight = take(name, {count, out, in}, true, true);
  weight->parts = parts;
  weight->stacked = count;
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

const klens::stored_tensor* checkpoint::find(std::string_view name) const {
  const auto at = places_.find(name);
  return at == places_.end() ? nullptr : at->second.tensor;
}

void checkpoint::skip(std::string_view name) {
  if (const auto at = places_.find(name); at != places_.end()) at->second.taken = true;
}

void checkpoint::choose_text_model() {
  constexpr std::pair<std::string_view, std::string_view> inner[] = {
      {"model.language_model.", "model."}, {"language_model.model.", "model."}, {"language_model.lm_head.", "lm_head."}};
  decltype(places_) chosen;
  for (const auto& [name, each] : places_) {
    std::string own = name == "lm_head.weight" ? name : "";
    for (const auto& [prefix, alone] : inner)
      if (name.starts_with(prefix)) own = std::string(alone) + name.substr(prefix.size());
    if (own.empty()) {
      const std::string below = name.starts_with("model.") ? name.substr(6) : name;
      ++left_out_[below.substr(0, below.find('.'))];
    } else if (!chosen.emplace(own, each).second) {
      throw klens::file_error(each.file->path().string() + ": has tensor " + klens::detail::name_text(own) +
                              " under two names; keep one of them");
    }
  }
  places_ = std::move(chosen);
}

void checkpoint::leave_out(std::string_view prefix) {
  for (auto& [name, each] : places_)
    if (!each.taken && name.starts_with(prefix)) {
      each.taken = true;
      ++left_out_[std::string(prefix.substr(0, prefix.find_last_not_of('.') + 1))];
    }
}

std::vector<std::string> checkpoint::left_out() const {
  std::vector<std::string> all;
  for (const auto& [name, count] : left_out_)
    all.push_back(klens::detail::name_text(name) + " (" + std::to_string(count) + (count == 1 ? " tensor)" : " tensors)"));
  return all;
}

std::vector<std::unique_ptr<parameter>> checkpoint::finish() {
  for (const auto& [name, each] : places_)
    if (!each.taken && !name.ends_with("rotary_emb.inv_freq"))  // older files keep what follows from the config
      throw klens::file_error(each.file->path().string() + ": has a tensor " + klens::detail::name_text(name) +
                              " that the model of config.json does not use; is it that of these weights?");
  return std::move(parameters_);
}

}  // namespace programs

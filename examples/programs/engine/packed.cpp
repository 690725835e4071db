#include "packed.hpp"

#include <klens/error.hpp>
#include <klens/quant/scheme.hpp>
#include <nlohmann/json.hpp>

#include "config.hpp"

namespace programs {

packed_tensors read_packed(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / packed_file_name;
  packed_tensors packed;
  if (!std::filesystem::exists(file)) return packed;
  try {
    const nlohmann::json json = read_json(file);
    if (json.at("format") != "klens-packed" || json.at("version") != 1)
      throw klens::argument_error{"is not a klens-packed document of version 1"};
    for (const auto& [name, ranges] : json.at("tensors").items())
      for (const nlohmann::json& each : ranges)
        packed[name].push_back(
            {klens::scheme{each.at("scheme").get<std::string>()}.name(), each.at("rows").get<std::size_t>()});
  } catch (const nlohmann::json::exception& caught) {
    throw klens::file_error{file.string() + ": " + caught.what() + "; write it again with klens plan --export packed"};
  } catch (const klens::argument_error& caught) {
    throw klens::file_error{file.string() + ": " + caught.what() + "; write it again with klens plan --export packed"};
  }
  return packed;
}

}  // namespace programs

#include "site_schemes.hpp"

#include <algorithm>
#include <klens/error.hpp>
#include <klens/site.hpp>

#include "comma_list.hpp"

namespace programs {

site_schemes parse_site_schemes(const std::string& list, const std::vector<klens::site_kind>& kinds) {
  site_schemes found;
  std::vector<std::string> for_all;
  const auto add = [](std::vector<std::string>& names, const std::string& name, const std::string& where) {
    if (std::ranges::find(names, name) != names.end())
      throw klens::argument_error{"the scheme " + name + " is named twice in " + where + "; name it once"};
    names.push_back(name);
  };
  for (const std::string& each : parts_at_commas(list)) {
    const std::size_t equals = each.find('=');
    const klens::scheme storage{equals == std::string::npos ? each : each.substr(equals + 1)};
    if (std::ranges::find(found.all, storage) == found.all.end()) found.all.push_back(storage);
    if (equals == std::string::npos) {
      add(for_all, storage.name(), "'" + list + "'");
      continue;
    }
    const klens::site_kind kind = klens::site_kind_of(each.substr(0, equals));
    if (std::ranges::find(kinds, kind) == kinds.end())
      throw klens::argument_error{"--schemes: '" + each + "' is for sites of the kind " + std::string{klens::name_of(kind)} +
                                  ", which --sites does not ask for"};
    add(found.of[kind], storage.name(), "'" + list + "' for " + std::string{klens::name_of(kind)});
  }
  for (const klens::site_kind kind : kinds) {
    if (found.of.contains(kind)) continue;
    if (for_all.empty())
      throw klens::argument_error{"--schemes '" + list + "' has no scheme for sites of the kind " +
                                  std::string{klens::name_of(kind)}};
    found.of[kind] = for_all;
  }
  return found;
}

void assign_schemes(const site_schemes& schemes, std::span<klens::layer> layers) {
  for (const auto& [kind, names] : schemes.of)
    for (const std::string& name : names) {
      const klens::scheme storage{name};
      const klens::layer* refused = nullptr;
      bool taken = false;
      for (klens::layer& each : layers) {
        if (each.site != kind) continue;
        each.schemes.push_back(name);
        if (klens::why_not_stored(each, storage).empty())
          taken = true;
        else if (refused == nullptr)
          refused = &each;
      }
      if (!taken && refused != nullptr && kind != klens::site_kind::weights)
        throw klens::argument_error{"sites of the kind " + std::string{klens::name_of(kind)} + " cannot be stored as " + name +
                                    ": " + refused->name + ": " + name + " " + klens::why_not_stored(*refused, storage)};
    }
}

}  // namespace programs

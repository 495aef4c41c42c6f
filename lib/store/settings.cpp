#include "gq/store/settings.hpp"

#include <fcntl.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "gq/base/directory.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/store/names.hpp"

namespace gq {
namespace {

constexpr int store_format = 1;
constexpr size_t max_members = 64;

// Whether the directory is empty, except for lost+found and for files of a process that died while it created the
// store.
bool is_empty(const Directory& directory) {
  const auto names = directory.names();
  return std::all_of(names.begin(), names.end(),
                     [](const std::string& name) { return name == "lost+found" || is_temporary_name(name); });
}

}  // namespace

bool Group::has(const std::string& node) const {
  return std::find(members.begin(), members.end(), node) != members.end();
}

Settings read_settings(const Directory& directory) {
  auto refuse = [&](const std::string& why) {
    return Error(Exit::config, "cannot open the store " + printable(directory.path()) + ": " + why);
  };
  Fd fd = directory.find(settings_name, O_RDONLY);
  if (!fd) throw refuse("it holds no gq.json");
  auto text = read_file(fd.get(), 1 << 20, directory.path_of(settings_name));
  auto json = nlohmann::json::parse(text.value_or(""), nullptr, false);
  if (!json.is_object() || !json.contains("format") || !json["format"].is_number_integer())
    throw refuse("its gq.json is damaged");
  if (json["format"].get<int64_t>() != store_format)
    throw refuse("it is in format " + json["format"].dump() + ", and this gq knows format " +
                 std::to_string(store_format));
  Settings settings;
  try {
    settings.store_id = json.at("store").get<std::string>();
    bool good = is_ulid(settings.store_id);
    auto limit = [&](const char* name, auto& value, auto parse) {
      if (!json.contains(name)) return;
      auto parsed = parse(json[name].get<std::string>());
      if (!parsed) throw refuse(std::string("its gq.json has a ") + name + " that cannot be read");
      value = *parsed;
      settings.written_limits[name] = json[name].get<std::string>();
    };
    limit("remember", settings.limits.remember, [](const std::string& t) { return parse_duration(t); });
    limit("clean_after", settings.limits.clean_after, [](const std::string& t) { return parse_duration(t); });
    limit("segment_size", settings.limits.segment_size, [](const std::string& t) { return parse_size(t); });
    limit("outputs", settings.limits.outputs, [](const std::string& t) { return parse_size(t); });
    if (json.contains("node")) {
      Group& g = settings.group;
      g.self = {json.at("node").get<std::string>(), json.at("identity").get<std::string>()};
      g.members = json.at("group").get<std::vector<std::string>>();
      g.copies = json.at("copies").get<uint32_t>();
      std::string run = json.at("run").get<std::string>();
      g.once = run == "once";
      good = good && is_ulid(g.self.store) && g.has(g.self.node) && g.copies >= 1 && g.copies <= g.members.size() &&
             g.members.size() <= max_members && (run == "all" || run == "once") &&
             std::all_of(g.members.begin(), g.members.end(), [](const std::string& m) { return is_node_name(m); }) &&
             std::set<std::string>(g.members.begin(), g.members.end()).size() == g.members.size();
    }
    if (!good) throw refuse("its gq.json is damaged");
  } catch (const nlohmann::json::exception&) {
    throw refuse("its gq.json is damaged");
  }
  return settings;
}

void write_settings(const Directory& directory, const Settings& settings, bool replace) {
  nlohmann::ordered_json json = {{"format", store_format}, {"store", settings.store_id}};
  for (const auto& [name, value] : settings.written_limits) json[name] = value;
  if (const Group& g = settings.group)
    json.update({{"node", g.self.node},
                 {"identity", g.self.store},
                 {"group", g.members},
                 {"copies", g.copies},
                 {"run", g.once ? "once" : "all"}});
  directory.publish(settings_name, json.dump(2) + "\n", replace);
}

Settings open_settings(const Directory& directory, bool create) {
  auto refuse = [&](const std::string& why) {
    return Error(Exit::config, "cannot open the store " + printable(directory.path()) + ": " + why);
  };
  // A file that cannot be read is there, too: find() throws.
  auto has_settings = [&] { return static_cast<bool>(directory.find(settings_name, O_RDONLY)); };
  if (!has_settings()) {
    if (!create) throw refuse("it holds no gq.json");
    // The directory must be empty. Otherwise it is not a store; or it is a store that has lost gq.json, on which its
    // checksums depend.
    if (!is_empty(directory) && !has_settings()) throw refuse("it is not empty, and holds no gq.json");
    directory.sync_parent();
    Settings fresh;
    fresh.store_id = new_ulid();
    write_settings(directory, fresh, false);
  }
  // A power cut must not remove gq.json and leave other files of the store. The process that wrote gq.json may not have
  // synced the file's name, so sync the directory before any other file is made. The first process that uses the store
  // creates `owners` after this; once `owners` is there, the name is durable.
  if (!directory.has(owners_name)) directory.sync();
  return read_settings(directory);
}

}  // namespace gq

// Tests of what the records make of the jobs: over random events, and without files but where a table is one.
#include <filesystem>

#include "check.hpp"
#include "events.hpp"
#include "gq/state/map_table.hpp"
#include "gq/store/tokyo_table.hpp"

using namespace gq;

namespace {

const Self here{"here", RandomEvents::store("here", false)};

MapTable::Map all_of(Table& table) {
  MapTable::Map all;
  for (auto c = table.walk(""); c->valid(); c->next()) all.emplace_hint(all.end(), c->key(), c->value());
  return all;
}

void both_sides_of_a_table_hold_the_same(const std::string& path) {
  std::filesystem::create_directory(path);
  TokyoTable file(Directory(path), "index.tcb");
  MapTable map;
  Fold in_file(file, here), in_map(map, here);
  RandomEvents random(1, 50);
  for (int i = 0; i < 10'000; ++i) {
    const auto item = random.next(in_map);
    for (Fold* fold : {&in_file, &in_map}) fold->apply(item.event, item.head, item.lsn, item.end);
    if (i % 1000 != 0) continue;
    in_file.commit(), in_map.commit();
    CHECK(all_of(file) == all_of(map) && all_of(map) == map.all() && file.count() == map.all().size());
  }
  for (const auto& [key, value] : map.all()) CHECK(file.get(key) == value && map.get(key) == value);
  CHECK(!file.get("~") && !map.get("~"));
  auto a = file.walk("j"), b = map.walk("j");
  for (const char* from : {"q", "j", "~", "c"}) {
    a->seek(from), b->seek(from);
    CHECK(a->valid() == b->valid() && (!a->valid() || (a->key() == b->key() && a->value() == b->value())));
  }
}

}  // namespace

void test_state(const std::string& directory) { both_sides_of_a_table_hold_the_same(directory + "/table"); }

// KeyValue: all that a database has to do to hold a store (mirror.hpp): keep values under keys.
//
// A key is 1 to max_key letters and digits of ASCII, a value any bytes up to max_value. To keep a store in a database
// of one's own, implement this and give it to Store; a program of any language does the same over a pipe (helper.hpp).
//
// The surprising fact: all that gq promises rests on put(). It may return only when the pairs are on stable storage, as
// after a commit that was synced.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace gq {

struct Pair {
  std::string key, value;
};

class KeyValue {
 public:
  // The longest record is a header (32 bytes), 64 KiB of meta data and 64 KiB of workload; what is longer comes in
  // pieces of 1 MiB.
  static constexpr size_t max_key = 64, max_value = 1 << 20;

  virtual ~KeyValue() = default;

  // Keeps these pairs, in place of what their keys had before; on stable storage on return. Whatever it throws: some of
  // them may be there, and it will be repeated.
  virtual void put(const std::vector<Pair>& pairs) = 0;

  // The value of a key, or nullopt.
  virtual std::optional<std::string> get(const std::string& key) = 0;

  // Removes these keys, on stable storage on return; that one is not there is no error.
  virtual void remove(const std::vector<std::string>& keys) = 0;

  // The first pairs, `limit` at most, whose keys are not before `from`, in the order of their bytes.
  virtual std::vector<Pair> scan(const std::string& from, size_t limit) = 0;

  // What a person should know of the database; said each time a copy of it is made, so once after each start of the
  // machine.
  virtual std::string notice() { return {}; }
};

}  // namespace gq

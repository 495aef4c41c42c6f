// KeyValue: the functions that a database must have to hold a store (mirror.hpp). It keeps values under keys.
//
// A key is 1 to max_key ASCII letters and digits, a value up to max_value bytes of any kind. To keep a store in your
// own database, implement this class and pass it to open_store(). A program in any other language can do the same over
// a pipe (helper.hpp).
//
// The surprising fact: all promises of gq depend on put(). It may return only when the pairs are on stable storage, as
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
  // The longest record has a header of 32 bytes, 64 KiB of meta data and 64 KiB of workload. Longer workloads are
  // stored in pieces of 1 MiB.
  static constexpr size_t max_key = 64, max_value = 1 << 20;

  virtual ~KeyValue() = default;

  // Stores these pairs, and replaces older values of their keys. The pairs are on stable storage on return. If put()
  // throws, some of the pairs may be stored, and gq repeats the call.
  virtual void put(const std::vector<Pair>& pairs) = 0;

  // Returns the value of a key, or nullopt.
  virtual std::optional<std::string> get(const std::string& key) = 0;

  // Removes these keys; the removal is on stable storage on return. A key that does not exist is not an error.
  virtual void remove(const std::vector<std::string>& keys) = 0;

  // Returns the pairs whose keys are `from` or greater, in the order of the keys' bytes: the first `limit` of them, or
  // all if there are fewer.
  virtual std::vector<Pair> scan(const std::string& from, size_t limit) = 0;

  // Returns a text that a user should know about the database, or an empty text. gq logs it each time it rebuilds the
  // local copy, so at least once after each start of the machine.
  virtual std::string notice() { return {}; }
};

}  // namespace gq

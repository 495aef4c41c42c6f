// KeyValue: what a database has to do to hold a store (mirror.hpp): keep values under keys.
//
// A key is 1 to max_key letters and digits of ASCII, a value any bytes up to max_value. To keep a store in a database
// of your own, implement this class and pass it to open_store(); a program in any language does the same over a pipe
// (helper.hpp).
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
  // The longest record is a header (32 bytes), 64 KiB of meta data and 64 KiB of workload. Longer workloads are stored
  // in pieces of 1 MiB.
  static constexpr size_t max_key = 64, max_value = 1 << 20;

  virtual ~KeyValue() = default;

  // Stores these pairs, in place of older values of their keys; they are on stable storage on return. If it throws,
  // some of the pairs may be stored, and the call will be repeated.
  virtual void put(const std::vector<Pair>& pairs) = 0;

  // Returns the value of a key, or nullopt.
  virtual std::optional<std::string> get(const std::string& key) = 0;

  // Removes these keys; the removal is on stable storage on return. A key that is not there is not an error.
  virtual void remove(const std::vector<std::string>& keys) = 0;

  // Returns the first pairs, `limit` at most, whose keys are not before `from`, in the order of the keys' bytes.
  virtual std::vector<Pair> scan(const std::string& from, size_t limit) = 0;

  // What a user should know about the database. It is logged each time the local copy is rebuilt, so once after each
  // start of the machine.
  virtual std::string notice() { return {}; }
};

}  // namespace gq

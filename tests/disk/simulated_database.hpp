// A simulated database for a store (gq/database/keyvalue.hpp).
//
// It behaves as follows:
//  - What it has answered is there, until it is set back. All connections see it at once.
//  - A request may remain without an answer, or its process may die meanwhile. Then the request is carried out, or a
//    part of it, or nothing; or it arrives late, in whole or in part: when other requests have been answered, also
//    after the boot in which it was sent. A connection repeats a request twice at most, as the helper does
//    (gq/database/helper.hpp).
//  - A request is late by less time than the cleaner waits before it removes records (`clean_after`): late requests
//    arrive before records are removed.
//  - When the database restarts, or is set back, the late requests are lost.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gq/database/keyvalue.hpp"
#include "simulated_disk.hpp"

namespace simulate {

class SimulatedDatabase {
 public:
  explicit SimulatedDatabase(uint64_t seed) : m_random(seed) {}

  // On average one request in so many has no answer; 0: each has one.
  void set_faults(unsigned one_in) { m_faults = one_in; }
  // A connection of a process, which must not outlive the process or the database.
  std::unique_ptr<gq::KeyValue> connect(SimulatedProcess& process);

  void restart() { m_late.clear(); }
  // Keeps the present state. set_back() returns to the state that was kept last; false: there is none.
  void save() { m_saved = m_pairs; }
  bool set_back();
  // Another program stores a pair.
  void put(const std::string& key, const std::string& value) { m_pairs[key] = value; }
  bool has(const std::string& key) const { return m_pairs.contains(key); }

 private:
  class Connection;
  struct Request {
    std::vector<gq::Pair> pairs;    // to store
    std::vector<std::string> keys;  // to remove
  };
  void carry_out(const Request& request);
  void carry_out_some(const Request& request);
  void leave(const Request& request);
  void receive_late(bool all);

  Random m_random;
  unsigned m_faults = 0;
  std::map<std::string, std::string> m_pairs;
  std::optional<std::map<std::string, std::string>> m_saved;
  std::vector<Request> m_late;
};

}  // namespace simulate

// Answers the questions of clients that wait for the ends of their jobs (pull_wire.hpp). Each question is answered at
// once, so no thread is held while a client waits.
#pragma once

#include <chrono>
#include <deque>
#include <string>
#include <string_view>
#include <utility>

#include "gq/base/mutex.hpp"
#include "gq/gearman/receivers.hpp"
#include "gq/replication/pull_wire.hpp"
#include "gq/store/ledger.hpp"

namespace gq {

class PullService {
 public:
  // `keys` are those of the group, or empty. Both must outlive the object.
  PullService(Ledger& ledger, const Keys& keys);

  // The store's name for clients.
  const std::string& name() const { return m_name; }
  // Returns the answer to a question. Thread-safe.
  std::string answer(std::string_view payload);
  // The service that receivers need. The object must outlive them.
  Service service();

 private:
  std::string body(const PullQuestion& question, std::string& reason);
  std::string ends(std::string_view body, std::string& reason);
  std::string output(std::string_view body, std::string& reason);
  Piece piece(const Wanted& wanted, uint64_t most);
  bool is_verified(const std::string& id, Lsn output);
  void verified(const std::string& id, Lsn output);

  Ledger& m_ledger;
  const Keys& m_keys;
  const std::string m_name;

  // The outputs in blobs whose sums were right just now. They are not read through again for each question.
  struct Verified {
    std::pair<std::string, Lsn> output;
    std::chrono::steady_clock::time_point until;
  };
  Mutex m_mutex;
  std::deque<Verified> m_verified GUARDED_BY(m_mutex);
};

}  // namespace gq

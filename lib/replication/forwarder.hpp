// Spooled jobs: `gq-enqueue --spool` keeps a job in the local store when no Gearman server or worker answers. A
// forwarder sends such jobs on, under their IDs, in the order in which they were spooled; each function has an order of
// its own.
//
// One process forwards at a time, under a lock, so that no job overtakes another. A job is forgotten when the other
// store has answered that it has it. A crash in between sends the job again, and the other store answers that it has
// the job already. A job that is refused for good becomes dead here, and the next one is sent.
//
// The surprising fact: the other store can be this one, if its worker serves the function. Then the add record that the
// worker writes makes the spooled job a job of this store, and it is not forgotten.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gq/base/mutex.hpp"
#include "gq/replication/sender.hpp"
#include "gq/store/queue.hpp"

namespace gq {

// Whether an answer means that the other store has the job. A job that it refuses with bad or conflict is refused for
// good; any other answer may be another one later.
inline bool has_taken(const Answer& answer) {
  return answer.outcome == Outcome::queued || answer.outcome == Outcome::same;
}
inline bool may_take_later(const Answer& answer) {
  return answer.outcome == Outcome::refused || answer.outcome == Outcome::unknown;
}

// Sends jobs of one function one group after the other, and no group after one that may still be refused: the answers
// to those after it are `refused`, too. So the order is kept when the jobs are spooled. Does not throw when no server
// or worker answers, and does not wait for a worker.
std::vector<Answer> send_in_order(Sender& sender, const std::vector<NewJob>& jobs);

// The text for users about a spooled job that is refused for good.
std::string refused_text(const std::string& id, const std::string& why);

// Spools jobs. Returns an answer for each; one of them may be a job of this store already.
std::vector<Answer> spool(Queue& store, std::vector<NewJob> jobs);

// How long a program that forwards in the background waits for an answer.
inline constexpr Millis forward_timeout{10'000};

class Forwarder {
 public:
  // `timeout` is the sender's. The store must outlive the forwarder.
  Forwarder(Queue& store, std::vector<Server> servers, Millis timeout = forward_timeout);
  ~Forwarder();

  struct Pass {
    bool is_busy = false;  // another process forwards; nothing was done
    uint64_t forwarded = 0;
    std::map<std::string, std::string> dead{};  // the jobs that were refused for good, and why
    std::string trouble{};                      // why jobs are left, by the first function with such; empty: none are
  };
  // Forwards the spooled jobs of these functions; empty: of all. Throws Error if the local store fails.
  Pass run(const std::vector<std::string>& functions = {});

  // Whether there are spooled jobs of a function.
  bool has_spooled(const std::string& function);

  // Forwards in a thread of its own from now on, until it is destroyed. Logs what it cannot forward.
  void start();

 private:
  std::vector<std::string> functions_with_spooled(const std::vector<std::string>& functions);
  void forward(const std::string& function, Pass& pass);
  void work();

  Queue& m_store;
  const std::vector<Server> m_servers;
  const Millis m_timeout;
  std::map<std::string, std::unique_ptr<Sender>> m_senders;  // by function
  std::thread m_thread;
  Mutex m_mutex;
  std::condition_variable m_stopping;
  std::atomic<bool> m_stop = false;
};

}  // namespace gq

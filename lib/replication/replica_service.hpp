// Answers the transfers of other nodes (transfer.hpp), several at a time. Records that it answers with "have" are on
// stable storage.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/replication/monitor.hpp"
#include "gq/store/queue.hpp"

namespace gq {

class ReplicaService {
 public:
  ReplicaService(Monitor& monitor, Queue& queue) : m_monitor(monitor), m_queue(queue) {}

  // Returns the answer to a transfer. Thread-safe.
  std::string answer(std::string_view payload);

 private:
  struct Taken;
  struct Part;
  static std::optional<Part> parse_part(std::string_view body);
  std::string body(const Transfer& transfer, bool taking, std::string& reason);
  std::string answer_take(const Transfer& transfer, std::string& reason);
  std::string answer_part(const Transfer& transfer, std::string& reason);
  std::string answer_ask(const Transfer& transfer, std::string& reason, bool taking);
  std::string take(const Transfer& transfer, Taken taken, std::string& reason);
  std::string take_whole(const Transfer& transfer, Part part, int fd, std::string& reason);
  std::vector<std::optional<PeerVerdict>> lacking(const std::vector<NewJob>& adds);
  std::vector<PeerVerdict> take_adds(const Transfer& transfer, std::vector<NewJob> adds);
  std::vector<PeerVerdict> take_states(const std::vector<event::State>& states, const std::vector<std::string>& bytes);

  Monitor& m_monitor;
  Queue& m_queue;
};

}  // namespace gq

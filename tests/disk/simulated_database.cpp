#include "simulated_database.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "gq/base/error.hpp"

namespace simulate {
namespace {

constexpr int most_tries = 3;
constexpr unsigned seldom_late = 8;  // a late request arrives at one request in so many

bool names_record(const std::string& key) { return key.starts_with('r'); }

}  // namespace

class SimulatedDatabase::Connection final : public gq::KeyValue {
 public:
  Connection(SimulatedDatabase& database, SimulatedProcess& process) : m_database(database), m_process(process) {}

  void put(const std::vector<gq::Pair>& pairs) override { change(pairs.empty() ? "" : pairs.front().key, {pairs, {}}); }
  void remove(const std::vector<std::string>& keys) override { change(keys.empty() ? "" : keys.front(), {{}, keys}); }
  std::optional<std::string> get(const std::string& key) override {
    ask("get", key, {});
    const auto at = m_database.m_pairs.find(key);
    return at == m_database.m_pairs.end() ? std::nullopt : std::optional(at->second);
  }
  std::vector<gq::Pair> scan(const std::string& from, size_t limit) override {
    ask("scan", from, {});
    std::vector<gq::Pair> pairs;
    for (auto at = m_database.m_pairs.lower_bound(from); at != m_database.m_pairs.end() && pairs.size() < limit; ++at)
      pairs.push_back({at->first, at->second});
    return pairs;
  }

 private:
  void change(const std::string& first, const Request& request) {
    const size_t size = request.pairs.size() + request.keys.size();
    ask(request.keys.empty() ? "put" : "remove", first + ", of " + std::to_string(size), request);
    if (std::any_of(request.keys.begin(), request.keys.end(), names_record)) m_database.receive_late(true);
    m_database.carry_out(request);
  }

  // Returns when the database has received the request. Throws Error(retry) if the database gives no answer.
  void ask(const char* call, const std::string& what, const Request& request) {
    for (int tries = 1;; ++tries) {
      if (!m_process.goes_on(call, what)) {
        m_database.leave(request);
        throw gq::Error(gq::Exit::retry, "the process is dead");
      }
      m_database.receive_late(false);
      if (!m_database.m_faults || !m_database.m_random.chance(m_database.m_faults)) return;
      m_database.leave(request);
      if (tries == most_tries || m_database.m_random.chance(2))
        throw gq::Error(gq::Exit::retry, "the database gives no answer");
    }
  }

  SimulatedDatabase& m_database;
  SimulatedProcess& m_process;
};

std::unique_ptr<gq::KeyValue> SimulatedDatabase::connect(SimulatedProcess& process) {
  return std::make_unique<Connection>(*this, process);
}

bool SimulatedDatabase::set_back() {
  restart();
  if (m_saved) m_pairs = *m_saved;
  return m_saved.has_value();
}

void SimulatedDatabase::carry_out(const Request& request) {
  for (const auto& [key, value] : request.pairs) m_pairs[key] = value;
  for (const auto& key : request.keys) m_pairs.erase(key);
}

void SimulatedDatabase::carry_out_some(const Request& request) {
  Request some;
  for (const auto& pair : request.pairs)
    if (m_random.chance(2)) some.pairs.push_back(pair);
  for (const auto& key : request.keys)
    if (m_random.chance(2)) some.keys.push_back(key);
  carry_out(some);
}

// What becomes of a request that gets no answer.
void SimulatedDatabase::leave(const Request& request) {
  switch (m_random.below(4)) {
    case 0:
      return carry_out(request);
    case 1:
      return carry_out_some(request);
    case 2:
      m_late.push_back(request);
      return;
    default:
      return;
  }
}

void SimulatedDatabase::receive_late(bool all) {
  while (!m_late.empty() && (all || m_random.chance(seldom_late))) {
    const auto at = m_late.begin() + static_cast<long>(m_random.below(m_late.size()));
    const Request request = std::move(*at);
    m_late.erase(at);
    if (m_random.chance(2)) carry_out(request);
    else carry_out_some(request);
  }
}

}  // namespace simulate

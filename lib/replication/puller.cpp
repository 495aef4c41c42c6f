#include "gq/replication/puller.hpp"

#include <algorithm>
#include <tuple>

#include "gq/base/text.hpp"
#include "gq/replication/ask.hpp"

namespace gq {
namespace {

constexpr size_t most_connected = 16;  // stores to which connections stay open
constexpr const char* no_worker = "no worker serves a store that has to know the job";

}  // namespace

Puller::Puller(std::vector<Server> servers, const std::string& keyfile)
    : m_servers(std::move(servers)), m_keys(keyfile.empty() ? Keys() : Keys(keyfile)) {}

Requests& Puller::requests_of(const std::string& store) {
  auto place = std::find_if(m_requests.begin(), m_requests.end(), [&](const auto& r) { return r.first == store; });
  if (place != m_requests.end()) {
    m_requests.splice(m_requests.begin(), m_requests, place);
  } else {
    m_requests.emplace_front(std::piecewise_construct, std::forward_as_tuple(store),
                             std::forward_as_tuple(m_servers, pull_function(store), no_worker));
    if (m_requests.size() > most_connected) m_requests.pop_back();
  }
  return m_requests.front().second;
}

// Returns true if the store has answered, and `take` has accepted the answer's body.
bool Puller::ask(const std::string& store, const std::string& kind, std::string_view body, Time until,
                 const Take& take) {
  Requests& requests = requests_of(store);
  const std::string question = encode_question(kind, store, body, m_keys);
  const std::string line = question.substr(0, question.find('\n'));
  m_reason.clear();
  bool good = false;
  const auto receive = [&](size_t, std::string_view result) {
    const auto answer = parse_pull_answer(result, store, line, m_keys, m_reason);
    good = answer && take(*answer);
    if (answer && !good) m_reason = "its answer is not one to the question";
    return true;
  };
  try {
    requests.connect(until, false);
    requests.start({question}, receive);
    const std::string failure = requests.finish(until);
    if (m_reason.empty()) m_reason = failure;
  } catch (const Error& e) {
    m_reason = e.what();
  }
  return good;
}

std::optional<std::vector<StoreSays>> Puller::ends(const std::string& store, const std::vector<std::string>& ids,
                                                   Time until) {
  std::optional<std::vector<StoreSays>> says;
  ask(store, "ends", encode_ask(ids), until,
      [&](std::string_view body) { return (says = parse_ends(body, ids)).has_value(); });
  return says;
}

std::optional<std::vector<Piece>> Puller::outputs(const std::string& store, const std::vector<Wanted>& wanted,
                                                  Time until) {
  std::optional<std::vector<Piece>> pieces;
  ask(store, "output", encode_wanted(wanted), until,
      [&](std::string_view body) { return (pieces = parse_pieces(body, wanted)).has_value(); });
  return pieces;
}

}  // namespace gq

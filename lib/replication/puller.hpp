// The client's side of pull_wire.hpp: asks stores, through gearmand, about jobs. Pull (pull.hpp) decides which store is
// asked when. Not thread-safe.
#pragma once

#include <list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gq/gearman/requests.hpp"
#include "gq/replication/pull_wire.hpp"

namespace gq {

class Puller {
 public:
  using Time = Requests::Clock::time_point;

  // `keyfile` has the keys of the group; empty: none. Throws Error(config) if it cannot be used.
  Puller(std::vector<Server> servers, const std::string& keyfile);

  // Asks a store how these jobs have ended; most_asked at most. Returns nullopt if it does not answer by `until`, or at
  // once if no worker serves it; reason() says why.
  std::optional<std::vector<StoreSays>> ends(const std::string& store, const std::vector<std::string>& ids, Time until);
  // Asks a store for outputs. Returns pieces of the first ones, at least one; nullopt as above.
  std::optional<std::vector<Piece>> outputs(const std::string& store, const std::vector<Wanted>& wanted, Time until);

  const std::string& reason() const { return m_reason; }

 private:
  using Take = std::function<bool(std::string_view body)>;
  bool ask(const std::string& store, const std::string& kind, std::string_view body, Time until, const Take& take);
  Requests& requests_of(const std::string& store);

  const std::vector<Server> m_servers;
  const Keys m_keys;
  std::list<std::pair<std::string, Requests>> m_requests;  // one for each store that was asked; the latest first
  std::string m_reason;
};

}  // namespace gq

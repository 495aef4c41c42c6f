// A helper is a program that keeps a store in a database. gq sends it requests on its standard input and reads the
// answers from its standard output, as gq-store-helper(7) says. The helper is started once. If it dies or violates the
// protocol, gq starts it again and repeats the request: all requests may be repeated.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "gq/base/fd.hpp"
#include "gq/database/keyvalue.hpp"

namespace gq {

inline constexpr const char* helper_greeting = "gq-store 1";

class Helper : public KeyValue {
 public:
  // Does not start the program yet. The program is looked up in PATH.
  explicit Helper(std::vector<std::string> argv) : m_argv(std::move(argv)) {}
  ~Helper() override;  // closes its input, waits for its end, and kills it after 2 seconds

  // All functions throw Error(retry) if the helper answers with an error, or gives no answer even after it was started
  // again; Error(config) if it does not know this protocol. They ignore output that answers no request, and do not keep
  // it in memory.
  void put(const std::vector<Pair>& pairs) override;
  std::optional<std::string> get(const std::string& key) override;
  void remove(const std::vector<std::string>& keys) override;
  std::vector<Pair> scan(const std::string& from, size_t limit) override;
  std::string notice() override;

 private:
  std::vector<Pair> ask(const char* what, const std::string& request, size_t most);
  void start();
  void stop();
  std::vector<Pair> answer(size_t most);
  bool says_more() const;
  void send(std::string_view bytes);
  std::string line();
  std::string bytes(size_t size);
  void fill();
  void wait_until_ready(short events, const char* what);

  const std::vector<std::string> m_argv;
  pid_t m_pid = 0;
  bool m_readable = false;  // the helper has reported that other users can read the database's files
  Fd m_socket;
  std::string m_read;  // bytes from the helper; those before m_used have been used
  size_t m_used = 0;
};

}  // namespace gq

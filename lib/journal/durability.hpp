// Durability: what makes the bytes of a store stable where the disk below its directory does not. That is a user's
// database (mirror.hpp); the directory is a copy of it then. A store without one has none of these: its own syncs do
// it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gq/journal/journal.hpp"

namespace gq {

class Durability {
 public:
  virtual ~Durability() = default;

  // Returns when all records before `end` are stable; one request answers all threads that wait. Throws Error(retry)
  // where that cannot be told: then the next call does it again.
  virtual void sync(Journal& journal, Lsn end) = 0;

  // Throws Error(retry) where the last request failed, and one made now does too.
  virtual void check(Journal& journal) = 0;

  virtual void put_blob(const std::string& id, std::string_view data) = 0;
  // Before the file is removed, which tells how many pieces there are.
  virtual void remove_blob(const std::string& id, uint64_t size) = 0;
  // Writes the blob's file anew; false where there is no whole one of that size.
  virtual bool restore_blob(const std::string& id, uint64_t size) = 0;

  // A record as it was made stable, head and data.
  virtual std::optional<std::string> record(Lsn lsn) = 0;
  // What cleaning makes of records: head and data anew, or nothing.
  virtual void change(const std::vector<std::pair<Lsn, std::string>>& records) = 0;
  virtual void remove(const std::vector<Lsn>& records) = 0;

  // The jobs that the user says are done, the first of them; and that these need not be said again.
  virtual std::vector<std::string> ends() = 0;
  virtual bool has_ended(const std::string& id) = 0;  // whether the user says it of this one
  virtual void forget_ends(const std::vector<std::string>& ids) = 0;

  // Compares all that should be stable with the directory, while nothing is cleaned, and says what is wrong there.
  virtual void verify(Journal& journal, const std::function<void(Lsn lsn, const std::string& what)>& wrong) = 0;

  // The directory is damaged. Throws Error(retry); it is made anew when nobody has it open.
  [[noreturn]] virtual void distrust() = 0;
};

}  // namespace gq

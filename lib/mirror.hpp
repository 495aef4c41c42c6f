// The mirror: keeps a store in the user's own database. The database has all that must survive; the store's directory is a copy
// of it, which is all that the rest of gq works on, and which nobody needs to sync or to save.
//
//   key                     value
//   r<LSN>                  a record of the journal, LSN in 20 digits (record.hpp)
//   b<ID><number>           a piece of the blob of a job, number in 8 digits
//   e<ID>                   anything: the job is done; written by the user, in the transaction that did it
//   settings                gq.json
//   holder                  the machine and the directory of the copy
//   position                where the copy began to write when it was last made anew
//
//   directory/database      how to reach it, exec:PROGRAM ARG..., and of which directory that is said: directory DEVICE INODE TIME; not there
//                           where a C++ program brings a KeyValue of its own
//   directory/mirror        boot | how much of the journal the database has | sum of gq.json; its flock is held by who writes there
//   directory/mirror.users  flock(2): shared by all that have the store open; alone, who makes the copy anew
//
// What Journal::sync() does for a journal of its own, sync() does here: it takes what processes have appended to the copy since the
// database was told last, and puts it there in one request. So whoever waits is answered by one commit, as by one fdatasync.
//
// The copy is believed as long as the machine runs. After a restart, or where it is damaged or gone, it is made anew. Then a request
// of before may still be on its way to the database, so positions go on far behind what is there.
//
// To change the format: raise store_format in settings.cpp, as for a directory.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "journal.hpp"
#include "keyvalue.hpp"

namespace gq {

class Mirror {
 public:
  // Makes `directory` a copy of the store in `database`, which is made where it is missing and `create` is true. Throws
  // Error(config) where there is none, or another machine or directory has it; Error(retry) where the database does not answer.
  Mirror(Directory directory, std::unique_ptr<KeyValue> database, bool create);

  static bool has_store(KeyValue& database);

  // Returns when all records before `end` are in the database; one request answers all threads that wait. Throws Error(retry) where
  // it does not answer: then that is unknown, and the next call does it again.
  void sync(Journal& journal, Lsn end);

  // Throws Error(retry) where the database did not answer last time, and does not now.
  void check(Journal& journal);

  void put_blob(const std::string& id, std::string_view data);
  // Before the file is removed, which tells how many pieces there are.
  void remove_blob(const std::string& id, uint64_t size);
  // Writes the blob's file anew; false where the database has no whole one of that size.
  bool restore_blob(const std::string& id, uint64_t size);

  // A record as the database has it, head and data.
  std::optional<std::string> record(Lsn lsn);
  // What cleaning makes of records: head and data anew, or nothing.
  void change(const std::vector<std::pair<Lsn, std::string>>& records);
  void remove(const std::vector<Lsn>& records);

  // The jobs that the user says are done, and that these need not be said again.
  std::vector<std::string> ends();
  void forget_ends(const std::vector<std::string>& ids);

  // Compares all that the database should have with the copy, while nothing is cleaned, and says what is wrong there.
  void verify(Journal& journal, const std::function<void(Lsn lsn, const std::string& what)>& wrong);

  // The copy is damaged. Throws Error(retry); it is made anew when nobody has it open.
  [[noreturn]] void distrust();

 private:
  struct Stamp;
  std::optional<Stamp> read_stamp() const;
  void write_stamp(const Stamp& stamp);
  bool is_behind(Lsn stable) const;
  Lsn make_anew(bool create);
  std::string settings_text() const;
  template <typename Visit>
  void for_each(char kind, size_t at_a_time, Visit visit);
  void ask(const std::function<void()>& request);
  Lsn put_records(Journal& journal, Lsn end);
  void remove_keys(const std::vector<std::string>& keys);

  const Directory m_directory;
  std::unique_ptr<KeyValue> m_database;
  Fd m_users, m_stamp;

  std::mutex m_mutex;  // of the database, and of these:
  bool m_failed = false;
  bool m_checked = true;   // that nobody else took the database when this process did
  std::unique_ptr<JournalReader> m_reader;

  std::mutex m_sync_mutex;
  std::condition_variable m_sync_done;
  bool m_syncing = false;
  Lsn m_stable = 0;              // in the database, as far as this process knows
  uint64_t m_failures = 0;       // how often that could not be told
  std::string m_last_failure;
};

// Where the copy of a store is, which may be named exec:PROGRAM ARG... or by its directory: in $GQ_CACHE, or the user's cache
// directory. Throws Error(config) where there is none.
std::string store_directory(const std::string& name);

// The same, opened and checked (directory.hpp). It is made where it is missing and `create` is true, or a program is named.
Directory open_store_directory(const std::string& name, bool create);

// Whether a store that is named like that is, or may be, in a database.
bool has_database(const std::string& name);

// What reaches the database of a store that is named like that and has this directory; empty where it has none, but only its directory.
// Throws Error(usage) where no program is named, and Error(config) where the directory's file `database` names one and is obeyed neither
// because the directory is the one that gq gives to the store of that name, nor because the file says that it is of this directory.
std::unique_ptr<KeyValue> open_database(const std::string& name, const Directory& directory);

// Makes the file `database` say that it is of its directory.
void confirm_database(const std::string& name);

inline constexpr const char* database_prefix = "exec:";

}  // namespace gq

// The mirror: keeps a store in the user's own database. The database is authoritative: it has all data that must
// survive. The store's directory is a copy of it, on which the rest of gq works. The copy needs neither syncs nor
// backups.
//
//   key                     value
//   r<LSN>                  a record of the journal; the LSN has 20 digits (record.hpp)
//   b<ID><number>           a piece of the blob of a job; the number has 8 digits
//   o<ID><number>           a piece of the output of a job, likewise
//   e<ID>                   any value: the job is done. The user's program writes this key in the transaction that did
//                           the job
//   settings                the content of gq.json
//   holder                  the machine and the directory that have the copy
//   position                the position at which the copy began to append after it was last rebuilt
//
//   directory/database      how to reach the database (exec:PROGRAM ARG...), and the directory for which this line is
//                           valid: directory DEVICE INODE TIME. The file is missing if a C++ program opens the store
//                           with its own KeyValue
//   directory/mirror        the kernel's boot ID | the position up to which the database has the journal | the checksum
//                           of gq.json | the checksum of this line. A process that writes records to the database holds
//                           the flock(2) of this file
//   directory/mirror.cleaning
//                           the range of the journal that is being cleaned: its base and its end. After a crash, or
//                           after a request that failed, the database may lack records of this range that the copy has
//   directory/mirror.users  each process that has the store open holds a shared flock(2) on this file; a process that
//                           rebuilds the copy holds it exclusively
//
// At the point where the LocalDisk calls fdatasync, sync() takes the records that all processes have appended to the
// copy since the last request, and puts them into the database: in one request, or in several if they are many. So one
// commit serves all processes that wait, as one fdatasync does.
//
// Until the machine restarts, gq trusts the copy. gq rebuilds the copy after a restart; if it is damaged or missing; if
// the database has records that it lacks; or if a user has removed the key `holder`. A request from before the rebuild
// may still be on its way to the database. So new records get positions far above all existing positions
// (safe_distance).
//
// To change the format of a store in a database, raise store_format in settings.cpp, as for a store in a directory.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/base/mutex.hpp"
#include "gq/database/keyvalue.hpp"
#include "gq/journal/journal.hpp"
#include "gq/store/ends.hpp"

namespace gq {

struct Settings;

class Mirror : public Durability, public Ends {
 public:
  // Makes `directory` a copy of the store in `database`. If `create` is true, a missing store is created. Throws
  // Error(config) if there is no store, or if another machine or directory holds it; Error(retry) if the database does
  // not answer.
  Mirror(Directory directory, std::unique_ptr<KeyValue> database, bool create);

  static bool has_store(KeyValue& database);

  std::optional<Lsn> synced() const override;
  void wrote(const std::shared_ptr<ActiveSegment>&, Lsn) override {}
  void finish(int) override {}
  bool sync(Journal& journal, Lsn from, Lsn end) override;
  void sync_all(Journal& journal) override;
  void sync_files(Journal& journal) override;
  void check(Journal& journal) override;
  void put_blob(const std::string& id, std::string_view data) override;
  void remove_blob(const std::string& id, uint64_t size) override;
  bool restore_blob(const std::string& id, uint64_t size) override;
  std::optional<std::string> record(Lsn lsn) override;
  void begin_cleaning(Lsn base, Lsn end) override;
  void end_cleaning() override;
  std::optional<std::pair<Lsn, Lsn>> half_cleaned() override;
  void change(Journal& journal, const std::vector<std::pair<Lsn, RecordBytes>>& records) override;
  void remove(const std::vector<Lsn>& adds, const std::vector<Lsn>& others) override;
  std::optional<std::pair<Lsn, Lsn>> verify(
      Journal& journal, const std::function<void(Lsn lsn, const std::string& what)>& wrong) override;
  void report_damage() override { distrust(); }

  std::vector<std::string> ends() override;
  bool has_ended(const std::string& id) override;
  void forget_ends(const std::vector<std::string>& ids) override;

 private:
  struct Stamp;
  std::optional<Stamp> read_stamp() const;
  void write_stamp(const Stamp& stamp);
  [[noreturn]] void distrust();
  bool is_behind(Lsn stable) REQUIRES(m_mutex);
  Lsn recreate(bool create) REQUIRES(m_mutex);
  void check_may_recreate(bool create, const std::optional<std::string>& settings,
                          const std::optional<std::string>& now) REQUIRES(m_mutex);
  Lsn restore_journal(const Settings& settings) REQUIRES(m_mutex);
  void restore_blobs() REQUIRES(m_mutex);
  std::string settings_text() const;
  template <typename Visit>
  void for_each(char kind, size_t at_a_time, Visit visit) REQUIRES(m_mutex);
  void ask(const std::function<void()>& request) REQUIRES(m_mutex);
  void put(Journal& journal, Lsn end) EXCLUDES(m_mutex, m_sync_mutex);
  Lsn put_records(Journal& journal, Lsn end) EXCLUDES(m_mutex);
  void remove_keys(const std::vector<std::string>& keys) EXCLUDES(m_mutex);

  const Directory m_directory;
  Mutex m_mutex;
  const std::unique_ptr<KeyValue> m_database PT_GUARDED_BY(m_mutex);
  const Fd m_users, m_stamp;
  bool m_failed GUARDED_BY(m_mutex) = false;
  bool m_checked GUARDED_BY(m_mutex) = true;  // whether it is known that this copy is the `holder`
  std::unique_ptr<JournalReader> m_reader GUARDED_BY(m_mutex);

  Mutex m_sync_mutex;
  std::condition_variable m_sync_done;
  bool m_syncing GUARDED_BY(m_sync_mutex) = false;
  Lsn m_stable GUARDED_BY(m_sync_mutex) = 0;         // this process knows that the database has all records before this
  uint64_t m_failures GUARDED_BY(m_sync_mutex) = 0;  // how many requests have failed
  std::string m_last_failure GUARDED_BY(m_sync_mutex);
};

}  // namespace gq

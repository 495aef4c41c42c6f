#include "gq/store/check.hpp"

#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "gq/base/disk.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/store/claiming.hpp"
#include "gq/store/index_table.hpp"

namespace gq {
namespace {

constexpr size_t most_compared = 1000;  // how many keys are compared in one visit to the index
constexpr size_t most_looked_up = 2000;
constexpr size_t between_progress = 1000;  // how many records or jobs are between two calls of `progress`

// Creates a table for the expected index in TMPDIR. Throws Error(storage) if that is not possible, or if there is no
// room for a table one and a half times as large as the index.
std::unique_ptr<IndexTable> create_second_table(const Ledger& ledger) try {
  const char* given = std::getenv("TMPDIR");
  const Directory directory(given && *given ? given : "/var/tmp");
  struct stat index, st, own;
  struct statfs fs;
  if (disk().fstat(directory.fd(), &st) != 0 || disk().fstat(ledger.directory().fd(), &own) != 0 ||
      disk().fstatfs(directory.fd(), &fs) != 0)
    throw_errno(Exit::storage, "look at " + printable(directory.path()));
  // Refuse a directory in which other users could replace the table by another file or a link before the library opens
  // it.
  if ((st.st_uid != ::geteuid() && st.st_uid != 0) || ((st.st_mode & (S_IWGRP | S_IWOTH)) && !(st.st_mode & S_ISVTX)))
    throw Error(Exit::storage, "others may rename files in " + printable(directory.path()));
  const uint64_t index_size = ledger.directory().look_at(index_name, index) ? static_cast<uint64_t>(index.st_size) : 0;
  const uint64_t size = index_size + index_size / 2, reserved = st.st_dev == own.st_dev ? ledger.reserved() : 0;
  if (fs.f_bavail * static_cast<uint64_t>(fs.f_frsize) < size + reserved)
    throw Error(Exit::storage, "there is no room for a table of " + std::to_string(size >> 20) + " MiB in " +
                                   printable(directory.path()));
  return open_table(directory, "tmp." + new_ulid(), IndexTable::Use::temporary);
} catch (const Error& e) {
  throw Error(Exit::storage,
              "cannot compare the index with the journal: " + std::string(e.what()) + " (TMPDIR names another place)");
}

// The expected index: the journal folded into a second table.
class Expected {
 public:
  explicit Expected(Ledger& ledger) : m_table(create_second_table(ledger)), m_fold(*m_table, ledger.group().self) {}

  void take(JournalReader::Item item, const EventReader& reader) {
    m_fold.take(item, reader);
    if (++m_taken % fold_chunk == 0) m_fold.commit();
  }
  void commit() { m_fold.commit(); }
  std::unique_ptr<Table::Cursor> entries(std::string_view from) { return m_fold.entries(from); }

 private:
  const std::unique_ptr<IndexTable> m_table;
  Fold m_fold;
  size_t m_taken = 0;
};

using Range = std::pair<Lsn, Lsn>;

std::vector<Range> cleaned_segments(const Ledger& ledger) {
  std::vector<Range> all;
  for (const auto& s : ledger.segments())
    if (s.cleaned) all.push_back({s.base, s.cleaned_at});
  return all;
}

// Reads the journal once, and goes through the index once.
class Check {
 public:
  using Found = std::function<void(const Finding&)>;
  using Show = std::function<void(const CheckProgress&)>;

  Check(Ledger& ledger, const Found& found, const Show& show)
      : m_ledger(ledger),
        m_found(found),
        m_show(show),
        m_reader(ledger.read(0)),
        m_news(ledger.read(0)),
        m_synced(ledger.synced()) {
    m_ledger.look([](Fold&) {});  // the size of the index is known after this, and later visits are short
    try {
      m_expected = std::make_unique<Expected>(m_ledger);
    } catch (const Error& e) {
      m_no_table = e;
    }
  }

  void read_journal() {
    const auto segments = m_ledger.segments();
    const Lsn begin = segments.empty() ? 0 : segments.front().base;
    for (size_t n = 0; step(); ++n) {
      if (m_without_data.size() >= most_looked_up) look_without_data();
      tell();
      if (!m_show || n % between_progress != 0) continue;
      m_progress.journal = std::max(m_ledger.end(), begin) - begin;
      m_progress.read = std::max(m_reader.position(), begin) - begin;
      m_show(m_progress);
    }
    look_without_data();
    look_at_end();
    tell();
  }

  // Compares the index with the journal. Returns the first difference; nullopt if there is none, or if there was no
  // room for the comparison.
  std::optional<std::string> walk_index() {
    std::optional<std::string> difference;
    std::string from;
    for (bool more = true; more;) {
      while (step()) continue;  // folds here, so that the next visit is short
      if (m_expected) m_expected->commit();
      std::vector<Claim> jobs;
      std::vector<Trouble> conflicts;
      Page page;
      m_ledger.look([&](Fold& fold) {
        jobs.clear();
        conflicts.clear();
        while (m_reader.position() < fold.position().end && step()) continue;
        page = compare(fold, from, !difference, [&](std::string_view key, std::string_view value) {
          if (auto job = Fold::job_at(key, value);
              job && (job->second.state != State::finished || job->second.output_lsn != 0))
            jobs.push_back({std::move(job->first), std::move(job->second)});
          if (auto trouble = Fold::trouble_at(key, value); trouble && trouble->kind == Trouble::Kind::conflict)
            conflicts.push_back(std::move(*trouble));
        });
      });
      more = page.more;
      from = page.next;
      if (page.difference) difference = page.difference;
      look_without_data();
      for (const auto& t : conflicts)
        report("conflict", t.lsn, t.id, "its ID was used again with another workload, which was refused", false);
      for (const auto& job : jobs) {
        if (job.job.state != State::finished) look_for_workload(job);
        if (job.job.output_lsn != 0) look_for_output(job);
      }
      tell();
    }
    return difference;
  }

  // The reason why the two could not be compared.
  const std::optional<Error>& no_table() const { return m_no_table; }

 private:
  struct Page {
    bool more = false;
    std::string next;  // the key where the next visit begins
    std::optional<std::string> difference;
  };

  void report(const char* kind, Lsn lsn, const std::string& id, const std::string& text, bool is_bad = true) {
    m_findings.push_back({kind, lsn, id, text, is_bad});
  }
  void tell() {
    for (const auto& finding : std::exchange(m_findings, {})) m_found(finding);
  }

  // An incomplete append is not damage, nor are bytes that were never synced: no client has got an answer for them.
  void report_damage(Lsn lsn, const std::string& id, const std::string& text) {
    const bool is_bad = lsn < m_synced.value_or(UINT64_MAX) && !m_reader.never_synced();
    report(is_bad ? "damage" : "torn", lsn, id, text, is_bad);
  }

  // Reads, verifies and folds the next item of the journal. Returns false at the end of the journal.
  bool step() {
    using Item = JournalReader::Item;
    const Item item = m_reader.next(true);
    if (item == Item::end) return false;
    const Lsn lsn = m_reader.lsn();
    const std::string range = std::to_string(m_reader.position() - lsn) + " bytes ";
    if (item == Item::record) look_at_record();
    if (item == Item::damage) report_damage(lsn, "", range + "cannot be read");
    if (item == Item::missing) report("missing", lsn, "", range + "of the journal are gone");
    if (item == Item::torn) report("torn", lsn, "", range + "of an append that was never acknowledged", false);
    if (item == Item::damage || item == Item::missing) {
      if (m_unreadable.empty() || m_unreadable.back().second < lsn) m_unreadable.push_back({lsn, 0});
      m_unreadable.back().second = m_reader.position();
    }
    try {
      if (m_expected) m_expected->take(item, m_reader);
    } catch (const Error& e) {
      m_expected.reset();
      m_no_table = e;
    }
    return true;
  }

  void look_at_record() {
    if (m_reader.head().inline_size() == 0) return;
    if (!m_reader.has_data()) m_without_data.push_back({m_reader.lsn(), id_of(m_reader.event())});
    else if (sum64(m_reader.data()) != m_reader.head().data_sum)
      report_damage(m_reader.lsn(), id_of(m_reader.event()),
                    is_any_of<event::Add>(m_reader.event()) ? "the checksum of its workload is wrong"
                                                            : "the checksum of its output is wrong");
  }

  // Looks at the records without data: the cleaner removes only data that no job needs, so any other missing data
  // is damage.
  void look_without_data() {
    if (m_without_data.empty()) return;
    std::vector<std::tuple<Lsn, std::string, const char*>> wrong;
    m_ledger.look([&](Fold& fold) {
      wrong.clear();
      for (const auto& [lsn, id] : m_without_data) {
        const auto job = fold.get(id);
        if (job && job->state != State::finished && job->is_inline() && job->location == lsn)
          wrong.push_back({lsn, id, "its workload is gone"});
        if (job && job->output_lsn == lsn) wrong.push_back({lsn, id, "its output is gone"});
      }
    });
    for (const auto& [lsn, id, text] : wrong) report("damage", lsn, id, text);
    m_without_data.clear();
  }

  void look_at_end() {
    const uint64_t rest = m_reader.unread();
    const Lsn end = m_reader.position() + rest;
    if (rest) report_damage(m_reader.position(), "", std::to_string(rest) + " bytes cannot be read");
    const auto bases = list_segments(m_ledger.directory().below(journal_name));
    if (const auto read = m_ledger.segments(); !bases.empty() && !read.empty() && read.back().base < bases.back())
      report("damage", end, "",
             "a segment says that the journal goes on up to here, but the last segment begins at " +
                 std::to_string(bases.back()) + ", and records appended there are not read");
    if (m_synced && end < *m_synced)
      report(
          "missing", end, "",
          "the journal ends here; " + std::to_string(*m_synced - end) + " bytes that were on stable storage are gone");
    if (!m_synced) report("unknown", end, "", "the journal ends here; nothing tells whether there was more", false);
  }

  // Compares some keys of the index with the expected keys. Calls `visit` for each key of the index.
  template <typename Visit>
  Page compare(Fold& fold, const std::string& from, bool compares, Visit visit) {
    Page page{false, from, {}};
    auto index = fold.entries(from);
    auto expected = compares && m_expected ? m_expected->entries(from) : nullptr;
    // Ignore entries that have no effect (Fold::has_no_effect()): they may come from records that the cleaner has
    // removed.
    const Millis now = now_ms();
    auto skip_help = [&] {
      while (expected && expected->valid() && Fold::has_no_effect(expected->key(), expected->value(), now))
        expected->next();
    };
    auto differ = [&](const std::string& what) {
      page.difference = what;
      expected.reset();
    };
    for (size_t n = 0; index->valid() && n < most_compared; ++n, index->next()) {
      visit(index->key(), index->value());
      page.next = std::string(index->key()) + std::string(1, '\0');
      skip_help();
      if (!expected || Fold::has_no_effect(index->key(), index->value(), now)) continue;
      if (!expected->valid())
        differ("the index has " + printable(index->key(), 60) + ", which the journal does not say");
      else if (index->key() != expected->key() || index->value() != expected->value())
        differ("they differ at " + printable(index->key(), 60) + " and " + printable(expected->key(), 60));
      else expected->next();
    }
    page.more = index->valid();
    skip_help();
    if (!page.more && expected && expected->valid()) differ("the index lacks " + printable(expected->key(), 60));
    return page;
  }

  bool is_readable(Lsn lsn, const std::string& id) {
    if (lsn >= m_reader.position()) return m_news.read_record_at(lsn, false) && id_of(m_news.event()) == id;
    auto at = std::upper_bound(m_unreadable.begin(), m_unreadable.end(), std::pair(lsn, UINT64_MAX));
    return at == m_unreadable.begin() || std::prev(at)->second <= lsn;
  }

  void look_for_workload(const Claim& c) {
    std::string reason;
    if (c.job.is_inline()) {
      if (!is_readable(c.job.location, c.id)) reason = "its record is damaged";
    } else if (!m_ledger.workload(c.id, c.job, reason)) {
      bool is_finished = false;  // the job has finished meanwhile, so its blob may be gone
      m_ledger.look([&](Fold& fold) {
        auto now = fold.get(c.id);
        is_finished = !now || now->state == State::finished;
      });
      if (is_finished) reason.clear();
    }
    if (!reason.empty()) report("damage", c.job.location, c.id, reason);
    if (++m_progress.jobs % between_progress == 0 && m_show) m_show(m_progress);
  }

  void look_for_output(const Claim& c) {
    std::string reason;
    if (!has_output_blob(c.job)) {
      if (!is_readable(c.job.output_lsn, c.id)) reason = "the record with its output is damaged";
    } else if (!m_ledger.output(c.id, c.job, reason)) {
      bool is_gone = false;  // since then
      m_ledger.look([&](Fold& fold) {
        const auto now = fold.get(c.id);
        is_gone = !now || now->output_lsn != c.job.output_lsn;
      });
      if (is_gone) reason.clear();
    }
    if (!reason.empty()) report("damage", c.job.output_lsn, c.id, reason);
  }

  Ledger& m_ledger;
  const Found m_found;
  const Show m_show;
  EventReader m_reader;
  EventReader m_news;  // reads the records after those that m_reader has read
  const std::optional<Lsn> m_synced;
  std::unique_ptr<Expected> m_expected;
  std::optional<Error> m_no_table;
  CheckProgress m_progress;
  std::vector<Finding> m_findings;                          // the findings that have not been reported yet
  std::vector<Range> m_unreadable;                          // by LSN
  std::vector<std::pair<Lsn, std::string>> m_without_data;  // records without data
};

}  // namespace

void check_store(Ledger& ledger, const std::function<void(const Finding&)>& found,
                 const std::function<void(const CheckProgress&)>& progress) {
  Fd cleaning = ledger.open_clean_lock();
  const auto before = cleaned_segments(ledger);
  std::optional<std::string> difference;
  std::optional<Error> no_table;
  {
    Check check(ledger, found, progress);
    check.read_journal();
    difference = check.walk_index();
    no_table = check.no_table();
  }
  const auto half = ledger.verify([&](Lsn lsn, const std::string& text) { found({"database", lsn, "", text}); });
  if (half)
    found({"unknown", half->first, "",
           "a cleaning of the journal up to " + std::to_string(half->second) +
               " was interrupted; whether the database has its records can be told after the next one",
           false});
  if (difference && cleaned_segments(ledger) != before) {  // the cleaner may have caused the difference
    FileLock not_now(cleaning.get(), FileLock::Mode::shared);
    Check again(
        ledger, [](const Finding&) {}, progress);
    again.read_journal();
    difference = again.walk_index();
    no_table = again.no_table();
  }
  if (difference) found({"index", 0, "", "it is not what the journal says: " + *difference});
  if (no_table) throw *no_table;
}

}  // namespace gq

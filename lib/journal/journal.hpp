// The journal: append-only segments that hold every record of a store. After a crash, the state of all jobs is rebuilt
// from the journal alone.
//
// A position (LSN) is a number of bytes since the store was created. The name of a segment is the LSN of its first
// byte. A position never changes its meaning. Each record has a frame, which contains the record's LSN and a checksum
// seeded with the store's ID. So gq never takes a workload that looks like a journal for one, and damage to the file
// loses only the records in the damaged bytes.
//
//   segment header: magic "GQJSEG\r\n" | version u32 | header size u32 | LSN u64 |
//                   LSN of the end of the segment before it u64 | checksum of these 32 bytes u64 (seeded)
//   frame header:   magic "GQF1" | length of the record here u32 | LSN u64 | checksum of these 16 bytes u64 (seeded)
//   then the record, without its data if the data is longer than max_inline_data.
//
// The cleaner (cleaner.hpp) replaces one or more segments by a cleaned segment, which has the name of the first. A
// cleaned segment holds the remaining records in their old order. Each record keeps its LSN, although its place in the
// file is now another:
//
//   segment header: as above, but with version 2 and header size 64, and before the checksum:
//                   LSN of the end of the range that it replaces u64 |
//                   LSN of the end of the journal when the segment was cleaned u64 | size of the file u64
//   frame header:   magic "GQF2" | as above; its checksum is seeded with the store's ID and the frame's offset in the
//                   file. The cleaner leaves out the data of a record when no job needs the data any more.
//
// The version of a segment says what it may have besides the records that all programs know (Content). A segment that
// may have outputs of commands, as the data of records that are not adds, has version 3, or 4 if it is a cleaned one. A
// segment that may also have records of the second types has version 5 or 6, and of the third types version 7 or 8.
// Programs that do not know these refuse the segment; they can still read a journal without such segments.
//
// Guarantees:
//  - commit() returns only when its records are on stable storage. With a store in a database, the database has them.
//    Otherwise this process has synced them itself, with fdatasync on a descriptor that it opened before it wrote.
//    Linux reports a failed write-back only to descriptors that were open at that moment, so a process never relies on
//    the sync of another process.
//  - When a process opens a segment to append to it, or to report it as durable, it first writes those records again
//    that may not have been synced. From then on its descriptor also reports failed write-backs of other processes'
//    records.
//  - A process never truncates what another process wrote. If the tail of a segment is incomplete, the segment ends
//    there, and the next append begins a new segment.
//  - A segment is on stable storage before the next segment begins, so a power cut can damage only the last one. The
//    last segment may have an incomplete record after the last position that is known to be synced. Then the next
//    segment begins with a Gap record (its type is "forget", without jobs). It says that the bytes from that record to
//    the end of the segment were never acknowledged, so a reader reports them as torn, not as damaged. If no synced
//    position is known at all, as in an old store, there is no Gap record. The cleaner may keep a record from these
//    bytes whose data is torn; then it keeps the Gap record, too.
//
// The surprising fact: after a failed fdatasync the bytes may be lost although they can still be read from the page
// cache, and a second fdatasync would return 0. The journal therefore appends the records again, in a new segment.
//
// To change the format: 1. raise journal_version, 2. let JournalReader accept all versions, 3. write the new version,
// at least for each segment that an older program would read wrongly. A program that finds a version newer than its own
// refuses the journal before it reads or appends anything.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/base/directory.hpp"
#include "gq/base/mutex.hpp"
#include "gq/journal/durability.hpp"
#include "gq/journal/record.hpp"

namespace gq {

// Every position is below this limit, so that a position plus a size never overflows. A store that grows by 10 GiB a
// second reaches this limit in 13 years, so a larger position in a file can only be wrong or forged.
inline constexpr Lsn max_lsn = 1ULL << 62;

inline constexpr uint32_t journal_version = 8;
inline constexpr uint64_t segment_header_size = 40, cleaned_header_size = 64;
inline constexpr uint64_t frame_header_size = 24;
// When a segment has reached this size, in bytes, the next append begins a new one.
inline constexpr uint64_t default_segment_size = 64ULL << 20;
// Disk space that is preallocated for completions, in bytes, so that a full disk does not make finished jobs run again.
// It has room for the completions of about 5,000 running jobs: start, done and their frames are about 200 bytes a job.
inline constexpr uint64_t spare_size = 1ULL << 20;
inline constexpr char journal_name[] = "journal", lock_name[] = "append.lock";
inline constexpr uint64_t marks_offset = 64;               // of LocalDisk's marks in append.lock, after the hint
inline constexpr char spare_clean_name[] = "spare.clean";  // reserved space that lets the cleaner run on a full disk
inline constexpr uint64_t usual_record = 256;              // typical size of a record in the journal, in bytes

// What a segment may have besides the records that all programs know; each value includes those before it. It is part
// of the segment's version.
enum class Content : uint32_t {
  plain,
  outputs,
  second_types,  // records of the types that came later: of dependencies, children, dead letters and cancelled jobs
  third_types,   // records of a type that came after these
};

// The purpose of a record. When the disk is full, a completion may use the spare segment, an intake may not.
enum class Room { intake, completion };

// These functions return the disk space, in bytes, that some work needs. The values are measured, with some margin.

// The space to queue `records` jobs and to run them (index, claims, starts and ends). `bytes` is the size of the add
// records without their workloads.
uint64_t room_to_run(uint64_t records, uint64_t bytes);
// The space to run `jobs` accepted jobs that are in the index already and have not ended.
uint64_t room_to_finish(uint64_t jobs);
// The space to fold `records` records, which take `bytes` bytes of the journal, into an index of `index_size` bytes.
uint64_t room_to_fold(uint64_t records, uint64_t bytes, uint64_t index_size);
// Returns how many records, at most `most`, may be folded in one transaction when `available` bytes of the disk are
// free and `bytes` bytes of the journal wait to be folded. 0: none.
size_t records_to_fold(uint64_t available, uint64_t bytes, uint64_t index_size, size_t most);

// A record to append: the result of encode_record(), or the head from encode_record_head() and the inline data that
// follows it. The bytes must outlive this object.
struct RecordBytes {
  RecordBytes(const std::string& head_bytes, std::string_view data_bytes = {}) : head(head_bytes), data(data_bytes) {}
  size_t size() const { return head.size() + data.size(); }
  std::string_view head, data;
};

// Where a record was appended.
struct Placed {
  Lsn lsn = 0;
  Lsn end = 0;
};

// A segment: its range of positions, and its file.
struct SegmentInfo {
  Lsn base = 0, end = 0;  // the last segment ends where its file ends
  uint64_t size = 0;      // of the file, in bytes
  bool cleaned = false;
  Lsn cleaned_at = 0;  // the end of the journal when this segment was cleaned
  Lsn previous_end = 0;
  Millis changed_at{0};  // modification time of the file
};

class Journal {
 public:
  // Creates the journal's directory, but appends nothing yet. `store_id` seeds the checksums. `durability` must outlive
  // the journal.
  Journal(const Directory& store, std::string_view store_id, Durability& durability,
          uint64_t segment_size = default_segment_size);
  ~Journal();

  // Appends records (without data longer than max_inline_data) with one write, and returns their positions. The records
  // are not durable until sync() has returned true. Throws Error(storage) if nothing was appended: because the disk or
  // a quota is full (Error::error_number()), or because the journal would reach max_lsn. Throws Error(bug) if the
  // readers would not accept the length of a record.
  std::vector<Placed> append(const std::vector<RecordBytes>& records, Room room);
  // Call it before taking a lock that other processes wait for (short_hold.hpp), if append() will be called under that
  // lock. Opens the segment to which append() will write; if that segment is full, begins a new one. So append() itself
  // has nothing to sync.
  void prepare();

  // Waits until all records that this process appended between two positions are on stable storage. Threads that wait
  // at the same time share one fdatasync. Returns false if a sync failed: the records may be lost, and the caller has
  // to append them again.
  bool sync(Lsn from, Lsn end) { return m_durability.sync(*this, from, end); }

  // Calls append() and sync(). If the sync fails, does both once more in a new segment. Throws Error(retry) if that
  // fails, too: the outcome is then unknown. `appended` is called with the range of the records before the first sync.
  std::vector<Placed> commit(const std::vector<RecordBytes>& records, Room room,
                             const std::function<void(Lsn from, Lsn end)>& appended = {});

  // The second half of commit(), for records that append() has placed.
  std::vector<Placed> make_safe(const std::vector<RecordBytes>& records, std::vector<Placed> placed, Room room);

  // The position after the last append.
  Lsn end() const;

  // Returns a position before which everything was on stable storage at some time; nullopt if no such position is
  // known. After a power cut the position may be too low, but never too high. So if the journal ends before this
  // position, records are lost. An incomplete record after this position was never acknowledged.
  std::optional<Lsn> synced() const { return m_durability.synced(); }

  // Whether the disk has room for an intake of `size` bytes, for spare_size, for running the new jobs (`run` bytes) and
  // for running the jobs that were accepted before (`owed` bytes). Without `owed` it uses the value in append.lock; if
  // append.lock has no value, half of the disk has to be free.
  bool has_room(uint64_t size, uint64_t run, std::optional<uint64_t> owed = {});
  // Call it before jobs are claimed. Does what prepare() does. Throws Error(storage) if no space is reserved for the
  // records of how the jobs end. Returns false if only the reserved space is left: the caller should then claim few
  // jobs at a time.
  bool check_claim_room();
  // Notes in append.lock that the jobs accepted before `end` need `bytes` bytes of disk space to be run. Does nothing
  // if `end` is not the end of the journal any more.
  void set_owed(Lsn end, uint64_t bytes);
  // available() returns the free bytes of the disk, and reserved() how many of them must stay free when work is done
  // that could wait.
  uint64_t available() const;
  uint64_t reserved() const { return spare_size + owed().value_or(0); }

  // Returns the end of the journal and its segments at one moment: no process appends meanwhile.
  std::pair<Lsn, std::vector<SegmentInfo>> snapshot();

  // The segments, by LSN, without those that a cleaned segment has replaced.
  std::vector<SegmentInfo> segments() const;

  // Waits until all records in the journal are on stable storage, also those of other processes. Throws Error(storage).
  void sync_all() { m_durability.sync_all(*this); }

  // Returns the last segment, with a descriptor whose sync covers everything in the segment before `end`, including the
  // records of other processes: the sync fails if the kernel has lost any of these bytes. nullopt if there is no
  // segment. Throws Error(storage).
  struct Tail {
    std::shared_ptr<ActiveSegment> segment;
    Lsn end;
  };
  std::optional<Tail> tail();

  const Directory& directory() const { return m_directory; }
  uint64_t segment_size() const { return m_segment_size; }
  uint64_t seed() const { return m_seed; }
  Durability& durability() const { return m_durability; }
  // The path of append.lock. Each append writes to this file, so a process can watch it with inotify for new records.
  std::string lock_path() const { return m_store.path_of(lock_name); }

 private:
  friend class JournalReader;

  struct Hint {
    Lsn base = 0;  // of the last segment
    Lsn end = 0;   // of the last append
    Lsn last = 0;  // of the last frame in the segment; 0: none
  };
  std::optional<Hint> read_hint() const;
  std::optional<Hint> proven_hint() const;
  void open_for_append() REQUIRES(m_append_mutex);
  void prepare_locked() REQUIRES(m_append_mutex);
  void sync_names() REQUIRES(m_append_mutex);
  void begin_segment(Room room) REQUIRES(m_append_mutex);
  void publish(Lsn base, Lsn end, Lsn last, uint64_t more) REQUIRES(m_append_mutex);
  std::optional<uint64_t> owed() const;
  bool names_a_frame(int fd, const Hint& hint) const;
  Content content_of_segment(int fd, Lsn base) const;
  std::optional<Lsn> write_again(int fd, Lsn base, uint64_t size) REQUIRES(m_append_mutex);
  bool ensure_spare() REQUIRES(m_append_mutex);

  const Directory m_store, m_directory;
  const uint64_t m_seed;
  const uint64_t m_segment_size;
  Durability& m_durability;
  Fd m_lock;

  Mutex m_append_mutex;  // threads of one process share m_lock's flock, so they need this mutex, too
  std::shared_ptr<ActiveSegment> m_segment GUARDED_BY(m_append_mutex);
  uint64_t m_segment_end GUARDED_BY(m_append_mutex) = 0;  // offset of the next frame in the segment's file
  // Whether this process has synced the directory since it opened the segment.
  bool m_named GUARDED_BY(m_append_mutex) = false;
  bool m_prepared GUARDED_BY(m_append_mutex) = false;  // prepare() was called
  // What m_segment may have, and what a segment that is begun now may have.
  Content m_segment_content GUARDED_BY(m_append_mutex) = Content::plain;
  Content m_content GUARDED_BY(m_append_mutex) = Content::plain;
  // The frames that append() writes. Kept between calls: a new allocation would be the largest cost of an append.
  std::string m_group GUARDED_BY(m_append_mutex);
  mutable std::atomic<bool> m_hint_proven = false;
};

// Returns the LSNs of the segments in a journal's directory, in ascending order. Ignores files whose names are not
// positions.
std::vector<Lsn> list_segments(const Directory& journal);
std::string segment_name(Lsn base);
std::optional<Lsn> parse_segment_name(std::string_view name);

// Removes segments that a cleaned segment has replaced. `segments` is in ascending order, and they are removed in this
// order. A crash may leave some of them: a reader still finds each record, in a remaining segment or in the cleaned
// one. Throws Error(storage).
void remove_segments(const Directory& journal, const std::vector<Lsn>& segments);

// Writes a cleaned segment, under a temporary name. All functions throw Error(storage).
class CleanedSegment {
 public:
  // The segment will replace the segments from `base` on. `journal` must outlive this object.
  CleanedSegment(const Journal& journal, Lsn base, Lsn previous_end);
  ~CleanedSegment();  // removes the file, unless publish() was called

  // Adds a record. Records must be added in the order of their LSNs.
  void add(Lsn lsn, std::string_view head, std::string_view data);
  uint64_t size() const { return m_size; }
  // Writes the buffered records and the header, and syncs the file. The cleaned segment will replace the range from
  // `base` to `end`. `cleaned_at` is the end of the journal now.
  void finish(Lsn end, Lsn cleaned_at);
  // Renames the file to its final name, which replaces the segment that has this name; the rename is durable on return.
  void publish();

 private:
  void write();
  const Journal& m_journal;
  const Lsn m_base, m_previous_end;
  std::string m_temporary;
  Fd m_fd;
  std::string m_buffer;
  uint64_t m_size = 0;
  Content m_content = Content::plain;
};

// Whether a Gap at this LSN is the first record of its segment. Then the journal itself wrote it, not the cleaner.
inline bool is_at_begin(const Gap& gap, Lsn lsn) { return lsn == gap.position + segment_header_size; }

// Reads the frames of a journal one after the other, beginning at a position, and continues after damage. EventReader
// also decodes the records.
class JournalReader {
 public:
  enum class Item {
    record,   // a record; see head(), lsn(), position() and data()
    damage,   // the bytes from lsn() to position() are not a frame with a valid record
    torn,     // the same, but the bytes are a frame that was cut short at the end of a segment, or were never synced:
              // the append was never acknowledged
    missing,  // the bytes from lsn() to position() are gone: a segment, or the end of one
    end,      // no more records; the next append will be read from position() on
  };

  // Begins to read at `from`, which is 0 or a position that another reader reported. `journal` must outlive the reader.
  JournalReader(Journal& journal, Lsn from);
  virtual ~JournalReader() = default;

  // Reads the next item, with its inline data if `with_data` is true. Throws Error on an I/O error, Error(config) for a
  // newer format, and on damage what Durability::report_damage() throws.
  Item next(bool with_data = false);

  // The position at which next() will read.
  Lsn position() const { return m_position; }
  // Continues at a later position, which must be the beginning or the end of a record.
  void skip_to(Lsn position) { m_position = position; }
  // Call it after Item::end. Returns how many bytes at position() are neither a frame nor the beginning of one. The
  // next append does not overwrite them; it begins a new segment.
  uint64_t unread();
  Lsn lsn() const { return m_lsn; }
  const RecordHead& head() const { return *m_head; }
  // The record's header and meta, as they are in the journal. Valid until the next call of next().
  std::string_view head_bytes() const { return m_head_bytes; }
  // The record's inline data, if next() was called with `with_data`. Valid until the next call of next(). has_data() is
  // false if the cleaner has removed the data.
  std::string_view data() const { return m_data; }
  bool has_data() const { return !m_without_data; }
  // Whether a Gap record says that the bytes at lsn() were never synced, and so never acknowledged.
  bool never_synced();

  // Reads the record at exactly this position. Returns false if it cannot be read any more.
  bool read_record_at(Lsn lsn, bool with_data);

 private:
  friend class Journal;
  // Whether the record's meta is valid. If not, next() reports the record as damage.
  virtual bool understand(const RecordHead&, std::string_view) { return true; }
  enum class Frame { good, bad_record, bad };
  Item step(bool with_data);
  bool open_segment(Lsn base);
  bool next_segment();
  std::optional<Item> next_cleaned(bool with_data);
  std::optional<std::pair<Lsn, uint64_t>> frame_at(std::string_view bytes, uint64_t offset) const;
  bool extend(uint64_t offset);
  bool fill(uint64_t offset, uint64_t size);
  Frame parse(uint64_t offset, bool with_data, uint64_t& frame_size);
  std::optional<uint64_t> find_frame(uint64_t from);
  bool only_cut_short(uint64_t offset);
  std::optional<std::pair<Lsn, Lsn>> next_torn() const;

  Journal& m_journal;
  Lsn m_position;
  Lsn m_lsn = 0;
  Fd m_fd;
  Lsn m_base = 0;
  Lsn m_previous_end = 0;  // from the header of the segment
  uint64_t m_size = 0;     // how far the segment may be read, in bytes of its file
  bool m_header_bad = false;
  // For a cleaned segment: the end of the range that it replaces, the offset of the next frame in its file, and the
  // size of the file according to its header.
  bool m_cleaned = false;
  Lsn m_end = 0;
  uint64_t m_offset = 0, m_whole_size = 0;
  Lsn m_frame_lsn = 0;                        // of the frame that was parsed last
  std::optional<std::pair<Lsn, Lsn>> m_torn;  // the next range that was never synced; empty while it is not known
  bool m_longer = false;  // the file goes beyond the next segment's base; not yet reported as damage
  std::string m_window;
  uint64_t m_window_offset = 0;
  uint64_t m_ahead = 0;  // how many bytes are read at once
  std::optional<RecordHead> m_head;
  std::string_view m_head_bytes;
  std::string_view m_data;
  bool m_without_data = false;
};

}  // namespace gq

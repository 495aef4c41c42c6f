// The journal: append-only segments that hold every record of a store, and the only thing that has to survive a crash.
//
// A position (LSN) counts bytes since the store was born. A segment is named by the LSN of its first byte; what a
// position means never changes. Each record stands in a frame of its own, which carries its own LSN and a sum seeded
// with the store's ID, so that a workload that looks like a journal can never be read as one, and damage costs only
// the record that it hit.
//
//   segment header: magic "GQJSEG\r\n" | version u32 | header size u32 | LSN u64 |
//                   LSN of the end of the segment before it u64 | sum of these 32 bytes u64 (seeded)
//   frame header:   magic "GQF1" | length of the record here u32 | LSN u64 | sum of these 16 bytes u64 (seeded)
//   then the record, its data left out where that is longer than max_inline_data.
//
// A segment that has been cleaned (cleaner.hpp) holds what is left of one or more of them, in the old order, under the
// name of the first. What is left keeps its LSN, which is no longer where it stands:
//
//   segment header: the same with version 2 and header size 64, and before its sum:
//                   LSN of the end of what it stands for u64 |
//                   LSN of the end of the journal when it was cleaned u64 | size of the file u64
//   frame header:   magic "GQF2" | the same; seeded with the store's ID and the frame's place in the file.
//                   The cleaner leaves out the data of an add that nobody needs any more.
//
// Guarantees. commit() returns only when its records are on stable storage, by an fdatasync of this process on a
// descriptor that it opened before it wrote: Linux reports a lost write only to descriptors that were open, so nobody
// relies on another process's sync. What others wrote and may not have synced, a process writes again through its own
// descriptor before it appends behind it, or vouches for it. Nobody truncates what another process wrote: a tail that
// is not whole ends its segment, and the next append begins a new one. A segment is on stable storage before the next
// one is begun, so that only the last one can lose something in a power cut. Where its tail was never synced, the next
// segment begins with a forget record that says so: what is damaged there was never acknowledged.
//
// The surprising fact: after a failed fdatasync the bytes may be gone though they can still be read, and a repeated
// fdatasync would answer 0. They are therefore appended again, in a new segment.
//
// To change the format: 1. raise journal_version, 2. let JournalReader accept both, 3. write only the new one. A
// program that finds a newer version refuses before it reads or appends anything.
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

// Every position is below this one, so that no sum of one with a size or a distance overflows. A store that grows
// by 10 GiB a second gets there in 13 years: a larger position has been made up.
inline constexpr Lsn max_lsn = 1ULL << 62;

inline constexpr uint32_t journal_version = 2;
inline constexpr uint64_t segment_header_size = 40, cleaned_header_size = 64;
inline constexpr uint64_t frame_header_size = 24;
// A segment that has reached this size is followed by a new one.
inline constexpr uint64_t default_segment_size = 64ULL << 20;
// Preallocated for completions, so that a full disk does not make finished jobs run again. It takes those of some 5,000
// running jobs (start, done and their frames are about 200 bytes each).
inline constexpr uint64_t spare_size = 1ULL << 20;
inline constexpr char journal_name[] = "journal", lock_name[] = "append.lock";
inline constexpr uint64_t marks_offset = 64;               // in append.lock, behind the hint: those of the LocalDisk
inline constexpr char spare_clean_name[] = "spare.clean";  // for cleaning a full disk
inline constexpr uint64_t usual_record = 256;              // in bytes of the journal

// What a record may use when the disk is full: a completion may use the spare segment, an intake may not.
enum class Room { intake, completion };

// What the disk has to have free, from measurements with some room to spare: for records of so many bytes besides their
// workloads that are to be queued, until their jobs have been run (index, claims, starts and ends); for that many
// accepted jobs that are in the index already and have not ended; for so many records and bytes of the journal to be
// folded into an index of a size in bytes. And how many records, up to `most`, may be folded in one transaction with so
// much free, where so many bytes wait; 0: none.
uint64_t room_to_run(uint64_t records, uint64_t bytes);
uint64_t room_to_finish(uint64_t jobs);
uint64_t room_to_fold(uint64_t records, uint64_t bytes, uint64_t index_size);
size_t records_to_fold(uint64_t available, uint64_t bytes, uint64_t index_size, size_t most);

// A record to append: what encode_record() made, or the head that encode_record_head() made and the inline data behind
// it.
struct RecordBytes {
  RecordBytes(const std::string& head_bytes, std::string_view data_bytes = {}) : head(head_bytes), data(data_bytes) {}
  size_t size() const { return head.size() + data.size(); }
  std::string_view head, data;
};

// Where a record went.
struct Placed {
  Lsn lsn = 0;
  Lsn end = 0;
};

// What the files of a journal are, by LSN.
struct SegmentInfo {
  Lsn base = 0, end = 0;  // of the last one, end is where its file ends
  uint64_t size = 0;      // of the file, in bytes
  bool cleaned = false;
  Lsn cleaned_at = 0;  // the end of the journal then
  Lsn previous_end = 0;
  Millis changed_at{0};  // the file
};

class Journal {
 public:
  // `store_id` seeds the sums. Creates its directory; appends nothing yet. The `durability` must outlive it.
  Journal(const Directory& store, std::string_view store_id, Durability& durability,
          uint64_t segment_size = default_segment_size);
  ~Journal();

  // Appends records (without data over max_inline_data) with one write, and returns where each stands. Not yet durable:
  // sync() makes it so. Throws Error(storage) when nothing was appended; disk full and quota are among the reasons
  // (Error::error_number()), and that max_lsn would be reached.
  std::vector<Placed> append(const std::vector<RecordBytes>& records, Room room);
  // Before an append() under a lock that others wait for (short_hold.hpp): opens the segment that it will go to, and
  // begins a new one behind one that is full, so that nothing has to be synced there.
  void prepare();

  // Waits until all that this process appended between two positions is on stable storage. Callers group: one fdatasync
  // answers all that wait. False when a sync failed: those bytes may be lost, and have to be appended again.
  bool sync(Lsn from, Lsn end) { return m_durability.sync(*this, from, end); }

  // append() and sync(), once more in a new segment where the sync failed; throws Error(retry) when that fails too: the
  // outcome is then unknown. `appended` is told what they take before they are first synced.
  std::vector<Placed> commit(const std::vector<RecordBytes>& records, Room room,
                             const std::function<void(Lsn from, Lsn end)>& appended = {});

  // The second half of commit(), for what append() has placed.
  std::vector<Placed> make_safe(const std::vector<RecordBytes>& records, std::vector<Placed> placed, Room room);

  // The position behind the last append.
  Lsn end() const;

  // All before this position has been on stable storage; nullopt where nothing tells. After a power cut it may be older
  // than the truth, never newer: where the journal ends before it, something is lost, and what is torn behind it was
  // never acknowledged.
  std::optional<Lsn> synced() const { return m_durability.synced(); }

  // Whether the disk has room for an intake of `size` bytes, and besides for spare_size and for what these need to be
  // run (`run`), and all that were accepted before (`owed`; else as far as it is known; where it is not, whether half
  // of the disk is free).
  bool has_room(uint64_t size, uint64_t run, std::optional<uint64_t> owed = {});
  // For claims: prepare(), and throws where nothing is set aside for how they end; false where only that is left, so
  // that few should be claimed at a time.
  bool check_claim_room();
  // What has been accepted up to a position needs so much room to be run. It counts unless more has been appended.
  void set_owed(Lsn end, uint64_t bytes);
  // Bytes that the disk has free, and what of them is not to be used for what can wait.
  uint64_t available() const;
  uint64_t reserved() const { return spare_size + owed().value_or(0); }

  // Where the journal ends at this moment, and which segments there are.
  std::pair<Lsn, std::vector<SegmentInfo>> snapshot();

  // What segments there are. One that another stands for too is left out.
  std::vector<SegmentInfo> segments() const;

  // Waits until all that has been appended is on stable storage, whoever has written it. Throws Error(storage).
  void sync_all() { m_durability.sync_all(*this); }

  // The last segment, through a descriptor that vouches for all that stands there before `end`, whoever has written it:
  // a sync through it fails where the kernel has lost something of that. nullopt where there is no segment. Throws
  // Error(storage).
  struct Tail {
    std::shared_ptr<ActiveSegment> segment;
    Lsn end;
  };
  std::optional<Tail> tail();

  const Directory& directory() const { return m_directory; }
  uint64_t segment_size() const { return m_segment_size; }
  uint64_t seed() const { return m_seed; }
  Durability& durability() const { return m_durability; }
  // The path of append.lock; the file is written at each append, so that inotify tells of new records.
  std::string lock_path() const { return m_store.path_of(lock_name); }

 private:
  friend class JournalReader;

  struct Hint {
    Lsn base = 0;  // of the last segment
    Lsn end = 0;   // of the last append
    Lsn last = 0;  // its last frame, 0 where there is none
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
  std::optional<Lsn> write_again(int fd, Lsn base, uint64_t size) REQUIRES(m_append_mutex);
  bool ensure_spare() REQUIRES(m_append_mutex);

  const Directory m_store, m_directory;
  const uint64_t m_seed;
  const uint64_t m_segment_size;
  Durability& m_durability;
  Fd m_lock;

  Mutex m_append_mutex;  // flock does not exclude threads of one process
  std::shared_ptr<ActiveSegment> m_segment GUARDED_BY(m_append_mutex);
  uint64_t m_segment_end GUARDED_BY(m_append_mutex) = 0;  // in its file: where the next frame goes
  // Whether this process has synced the directory since it opened the segment.
  bool m_named GUARDED_BY(m_append_mutex) = false;
  // What is being written; kept, because to allocate it anew is what an append would cost most.
  std::string m_group GUARDED_BY(m_append_mutex);
  mutable std::atomic<bool> m_hint_proven = false;
};

// The segments of a journal, by LSN. A file whose name is not a position is left out.
std::vector<Lsn> list_segments(const Directory& journal);
std::string segment_name(Lsn base);
std::optional<Lsn> parse_segment_name(std::string_view name);

// Removes segments that a cleaned one stands for, by LSN. Whatever a crash leaves of them, a reader finds there, or in
// the cleaned one, what stands at each position. Throws Error(storage).
void remove_segments(const Directory& journal, const std::vector<Lsn>& segments);

// Writes a cleaned segment, under a temporary name.
class CleanedSegment {
 public:
  // It will stand for all from `base` on. Throws Error(storage), as the others do.
  CleanedSegment(const Journal& journal, Lsn base, Lsn previous_end);
  ~CleanedSegment();  // removes it, unless publish() was called

  // Records in the order of their LSN.
  void add(Lsn lsn, std::string_view head, std::string_view data);
  uint64_t size() const { return m_size; }
  // Writes what is left, and where it ends, and syncs it.
  void finish(Lsn end, Lsn cleaned_at);
  // Gives it its name, which may be that of the first segment that it stands for; durable on return.
  void publish();

 private:
  void write();
  const Journal& m_journal;
  const Lsn m_base, m_previous_end;
  std::string m_temporary;
  Fd m_fd;
  std::string m_buffer;
  uint64_t m_size = 0;
};

// Walks the frames of a journal from a position on, past damage. See EventReader for one that knows what their records
// say.
class JournalReader {
 public:
  enum class Item {
    record,   // head(), lsn(), next() and data() are those of a record
    damage,   // bytes from lsn() to next() cannot be read as a frame with a record
    torn,     // the same, at the end of a segment and only cut short, or never synced: an append that was never
              // acknowledged
    missing,  // what stood from lsn() to next() is gone: a segment, or the end of one
    end,      // nothing more; position() is where the next append will be read
  };

  // Reads from `from` on, which is 0 or a position that another reader reported.
  JournalReader(Journal& journal, Lsn from);
  virtual ~JournalReader() = default;

  // Steps on. With `with_data` inline data is read too. Throws Error on an I/O error, Error(config) for a newer format,
  // and for damage what Durability::report_damage() throws.
  Item next(bool with_data = false);

  Lsn position() const { return m_position; }
  // Goes on at a position behind that (of a record, or the end of one).
  void skip_to(Lsn position) { m_position = position; }
  // After Item::end: how many bytes stand at position() that are neither a frame nor only the beginning of one. The
  // next append will leave them behind.
  uint64_t unread();
  Lsn lsn() const { return m_lsn; }
  const RecordHead& head() const { return *m_head; }
  // Header and meta as they stand in the journal; valid until the next call of next().
  std::string_view head_bytes() const { return m_head_bytes; }
  // Inline data, when it was asked for; valid until the next call of next(). has_data() is false where it has been
  // cleaned away.
  std::string_view data() const { return m_data; }
  bool has_data() const { return !m_without_data; }
  // Whether what stands at lsn() was never acknowledged, as the next segment says.
  bool never_synced();

  // The record at exactly this position, or nullopt where it cannot be read any more.
  bool read_record_at(Lsn lsn, bool with_data);

 private:
  friend class Journal;
  // Whether a record says something; else it is damage.
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

  Journal& m_journal;
  Lsn m_position;
  Lsn m_lsn = 0;
  Fd m_fd;
  Lsn m_base = 0;
  Lsn m_previous_end = 0;  // as the header of the segment says
  uint64_t m_size = 0;     // how far the segment may be read
  bool m_header_bad = false;
  // Of a cleaned one: what it stands for ends there; how far it has been read, and the LSN of the frame that was parsed
  // last.
  bool m_cleaned = false;
  Lsn m_end = 0;
  uint64_t m_offset = 0, m_whole_size = 0;
  Lsn m_frame_lsn = 0;
  std::optional<Lsn> m_torn;  // where the part begins that was never synced, once the next segment has been asked
  bool m_longer = false;      // than the next segment lets it be: what overlaps is nobody's
  std::string m_window;
  uint64_t m_window_offset = 0;
  uint64_t m_ahead = 0;  // how much is read at once
  std::optional<RecordHead> m_head;
  std::string_view m_head_bytes;
  std::string_view m_data;
  bool m_without_data = false;
};

}  // namespace gq

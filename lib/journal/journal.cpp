#include "gq/journal/journal.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "gq/base/bytes.hpp"
#include "gq/base/disk.hpp"
#include "gq/base/log.hpp"
#include "gq/base/short_hold.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"

namespace gq {
namespace {

constexpr char segment_magic[9] = "GQJSEG\r\n";
// The types of records that segments of the versions 1 to 4 may have.
constexpr std::string_view first_types[] = {workload_type, "claim", "start", "done",    "fail",   "dead",
                                            "kick",        "drop",  "keep",  "release", "pause",  "resume",
                                            "copied",      "state", "peer",  "forget",  "stream", "end"};
// The types that segments of the versions 5 and 6 may have besides.
constexpr std::string_view second_types[] = {"after", "wake", "letter", "cancel", "child"};
constexpr uint32_t frame_magic = 0x31465147;          // "GQF1"
constexpr uint32_t cleaned_frame_magic = 0x32465147;  // "GQF2"
constexpr uint64_t hint_magic = 0x31544e4948514747;
constexpr size_t hint_size = 40;
// The size of what follows the hint: {position, bytes, checksum}. It says that the jobs accepted before `position` need
// `bytes` bytes of disk space to be run.
constexpr size_t owed_size = 24;
static_assert(hint_size + owed_size <= marks_offset);
constexpr char segment_suffix[] = ".gqj";
constexpr char spare_name[] = "spare";
// The size that pages of the index seldom exceed: a page has up to 128 entries.
constexpr uint64_t largest_page = 16 * 1024;
// Space for the records of the few jobs that are claimed while only the spare segment is left.
constexpr uint64_t claim_reserve = 64 * 1024;
constexpr size_t segment_digits = 20;  // a u64 in decimal, so that names sort by position

constexpr uint64_t max_frame_record = record_header_size + max_meta_size + max_inline_data;

// A segment's header without the base. If `end` is not 0, it is the header of a cleaned segment.
struct SegmentHeader {
  Lsn previous_end = 0;
  Lsn end = 0, cleaned_at = 0;
  uint64_t size = 0;  // of the file
  Content content = Content::plain;
};

std::string segment_header(Lsn base, const SegmentHeader& h, uint64_t seed) {
  std::string header(segment_magic, 8);
  put_le<uint32_t>(header, 1 + 2 * static_cast<uint32_t>(h.content) + (h.end ? 1 : 0));
  put_le<uint32_t>(header, h.end ? cleaned_header_size : segment_header_size);
  put_le<uint64_t>(header, base);
  put_le<uint64_t>(header, h.previous_end);
  if (h.end) {
    put_le<uint64_t>(header, h.end);
    put_le<uint64_t>(header, h.cleaned_at);
    put_le<uint64_t>(header, h.size);
  }
  put_le<uint64_t>(header, sum64(header, seed));
  return header;
}

// Decodes a segment's header. Returns nullopt unless it is complete and valid. Throws Error(config) for a newer format.
std::optional<SegmentHeader> parse_segment_header(std::string_view bytes, Lsn base, uint64_t seed) {
  if (bytes.size() < 12 || bytes.substr(0, 8) != std::string_view(segment_magic, 8)) return std::nullopt;
  uint32_t version = get_le<uint32_t>(bytes, 8);
  if (version > journal_version)
    throw Error(Exit::config, "cannot use the journal: it is in format " + std::to_string(version) +
                                  ", and this gq knows formats up to " + std::to_string(journal_version));
  if (version == 0) return std::nullopt;
  const bool cleaned = version % 2 == 0;
  if (bytes.size() < (cleaned ? cleaned_header_size : segment_header_size)) return std::nullopt;
  SegmentHeader h{.previous_end = get_le<uint64_t>(bytes, 24), .content = static_cast<Content>((version - 1) / 2)};
  if (cleaned)
    h.end = get_le<uint64_t>(bytes, 32), h.cleaned_at = get_le<uint64_t>(bytes, 40),
    h.size = get_le<uint64_t>(bytes, 48);
  if (cleaned && h.end <= base) return std::nullopt;
  if (std::max({h.previous_end, h.end, h.cleaned_at, h.size}) >= max_lsn) return std::nullopt;
  std::string whole = segment_header(base, h, seed);
  if (bytes.substr(0, whole.size()) != whole) return std::nullopt;
  return h;
}

// What a program has to know to read this record. `head` is its header and meta.
Content content_of(std::string_view head) {
  const auto sizes = peek_record(head);
  if (!sizes || sizes->head_size > head.size()) return Content::plain;
  const auto type = type_of(head.substr(record_header_size, sizes->head_size - record_header_size));
  const auto is_in = [&](const auto& types) {
    return std::find(std::begin(types), std::end(types), *type) != std::end(types);
  };
  if (type && !is_in(first_types)) return is_in(second_types) ? Content::second_types : Content::third_types;
  return sizes->data_size && type != workload_type ? Content::outputs : Content::plain;
}

std::optional<SegmentHeader> read_segment_header(int fd, Lsn base, uint64_t seed) {
  char bytes[cleaned_header_size];
  return parse_segment_header(std::string_view(bytes, read_at(fd, bytes, sizeof bytes, 0)), base, seed);
}

void put_frame_header(std::string& out, uint64_t length, Lsn lsn, uint64_t seed, uint32_t magic = frame_magic) {
  size_t at = out.size();
  put_le<uint32_t>(out, magic);
  put_le<uint32_t>(out, static_cast<uint32_t>(length));
  put_le<uint64_t>(out, lsn);
  put_le<uint64_t>(out, sum64(std::string_view(out).substr(at, 16), seed));
}

// Returns the LSN and the length of the record in a frame; nullopt if the bytes are not the header of a frame.
std::optional<std::pair<Lsn, uint64_t>> parse_frame_header(std::string_view bytes, uint32_t magic, uint64_t seed) {
  if (bytes.size() < frame_header_size || get_le<uint32_t>(bytes, 0) != magic ||
      get_le<uint64_t>(bytes, 16) != sum64(bytes.substr(0, 16), seed))
    return std::nullopt;
  uint64_t length = get_le<uint32_t>(bytes, 4);
  if (length < record_header_size || length > max_frame_record) return std::nullopt;
  return std::pair(get_le<uint64_t>(bytes, 8), length);
}

// Returns the length of the record in a frame; nullopt if the bytes are not the header of a frame at that position.
std::optional<uint64_t> parse_frame_header(std::string_view bytes, Lsn lsn, uint64_t seed) {
  auto frame = parse_frame_header(bytes, frame_magic, seed);
  if (!frame || frame->first != lsn) return std::nullopt;
  return frame->second;
}

// Throws if `size` more bytes after this position would reach max_lsn.
void check_range(Lsn from, uint64_t size) {
  if (from < max_lsn && size < max_lsn - from) return;
  throw Error(Exit::storage, "cannot append to the journal: it has come to its last position");
}

// Throws unless the readers accept the length of this record.
void check_length(const RecordBytes& record) {
  const auto sizes = peek_record(record.head);
  if (sizes && record.size() == sizes->head_size + (sizes->data_size > max_inline_data ? 0 : sizes->data_size)) return;
  throw Error(Exit::bug, "cannot append to the journal: a record could not be read back");
}

}  // namespace

// Measured for a small job whose record head is 90 bytes, without its frame: the job takes 215 bytes of the index when
// it is queued, and 340 in the end. Its claim, start and done records take 313 bytes of the journal. The index has a
// name or key in up to three entries, and its pages are half full.
uint64_t room_to_run(uint64_t records, uint64_t bytes) { return 450 * records + 4 * bytes; }

uint64_t room_to_finish(uint64_t jobs) {
  const uint64_t chunk = std::min<uint64_t>(jobs, 1000);
  return 500 * jobs + room_to_fold(chunk, 200 * chunk, 0);
}

// A transaction of the fold adds to the index, and logs the old content of each page that it changes. A record changes
// three pages, anywhere in the index. The log is never much longer than the index.
uint64_t room_to_fold(uint64_t records, uint64_t bytes, uint64_t index_size) {
  return 64 * 1024 + 12 * bytes + std::min(3 * largest_page * records, index_size);
}

size_t records_to_fold(uint64_t available, uint64_t bytes, uint64_t index_size, size_t most) {
  auto fit = [&](uint64_t n) {
    return available >= room_to_fold(n, std::min<uint64_t>(bytes, n * usual_record), index_size);
  };
  if (bytes == 0) return most;
  uint64_t good = 0, bad = uint64_t{most} + 1;
  while (bad - good > 1) {
    const uint64_t n = good + (bad - good) / 2;
    (fit(n) ? good : bad) = n;
  }
  return good;
}

std::string segment_name(Lsn base) { return padded(base, segment_digits) + segment_suffix; }

std::optional<Lsn> parse_segment_name(std::string_view name) {
  if (name.size() != segment_digits + strlen(segment_suffix) || name.substr(segment_digits) != segment_suffix)
    return std::nullopt;
  auto base = parse_count(name.substr(0, segment_digits));
  return base && *base < max_lsn ? base : std::nullopt;
}

std::vector<Lsn> list_segments(const Directory& journal) {
  std::vector<Lsn> segments;
  for (const auto& name : journal.names())
    if (auto base = parse_segment_name(name)) segments.push_back(*base);
  std::sort(segments.begin(), segments.end());
  return segments;
}

// Syncs the directory after each removal. So a power cut cannot undo the removal of a segment while a later one of them
// stays removed.
void remove_segments(const Directory& journal, const std::vector<Lsn>& segments) {
  for (Lsn base : segments) {
    if (!journal.remove(segment_name(base)) && errno != ENOENT)
      throw_errno(Exit::storage, "remove " + journal.path_of(segment_name(base)));
    journal.sync();
  }
}

Journal::Journal(const Directory& store, std::string_view store_id, Durability& durability, uint64_t segment_size)
    : m_store(store),
      m_directory(store.make_below(journal_name)),
      m_seed(sum64(store_id)),
      m_segment_size(segment_size),
      m_durability(durability),
      m_lock(store.open(lock_name, O_RDWR | O_CREAT)) {}

Journal::~Journal() = default;

// append.lock holds a hint: {magic, base of the last segment, its end, its last frame, checksum}. It is not synced.
std::optional<Journal::Hint> Journal::read_hint() const {
  char bytes[hint_size];
  std::string_view hint(bytes, read_at(m_lock.get(), bytes, sizeof bytes, 0));
  if (hint.size() != hint_size || get_le<uint64_t>(hint, 0) != hint_magic ||
      get_le<uint64_t>(hint, 32) != sum64(hint.substr(0, 32), m_seed))
    return std::nullopt;
  return Hint{get_le<uint64_t>(hint, 8), get_le<uint64_t>(hint, 16), get_le<uint64_t>(hint, 24)};
}

// After a power cut the hint may be older or newer than the segments. So this process checks once that the hint names
// the last segment and a valid frame in it. After that this process trusts each hint, because any process that begins a
// segment writes the hint first.
std::optional<Journal::Hint> Journal::proven_hint() const {
  auto hint = read_hint();
  if (!hint || m_hint_proven) return hint;
  auto segments = list_segments(m_directory);
  if (segments.empty() || segments.back() != hint->base) return std::nullopt;
  Fd fd = m_directory.find(segment_name(hint->base), O_RDONLY);
  if (!fd || hint->base + file_size(fd.get()) < hint->end || !names_a_frame(fd.get(), *hint)) return std::nullopt;
  m_hint_proven = true;
  return hint;
}

std::optional<uint64_t> Journal::owed() const {
  auto hint = read_hint();
  if (!hint) return list_segments(m_directory).empty() ? std::optional<uint64_t>(0) : std::nullopt;
  char bytes[owed_size];
  std::string_view owed(bytes, read_at(m_lock.get(), bytes, sizeof bytes, hint_size));
  // A program of an older version may have appended records without updating this value.
  if (owed.size() != owed_size || get_le<uint64_t>(owed, 0) != hint->end ||
      get_le<uint64_t>(owed, 16) != sum64(owed.substr(0, 16), m_seed))
    return std::nullopt;
  return get_le<uint64_t>(owed, 8);
}

void Journal::set_owed(Lsn end, uint64_t bytes) {
  MutexLock guard(m_append_mutex);
  FileLock lock(m_lock.get(), FileLock::Mode::exclusive);
  auto hint = read_hint();
  if (!hint || hint->end != end) return;
  std::string owed;
  put_le<uint64_t>(owed, end);
  put_le<uint64_t>(owed, bytes);
  put_le<uint64_t>(owed, sum64(owed, m_seed));
  [[maybe_unused]] ssize_t n = disk().pwrite(m_lock.get(), owed.data(), owed.size(), hint_size);
}

// Writes the hint. `more` is the disk space, in bytes, that is needed to run the jobs of the records just appended.
void Journal::publish(Lsn base, Lsn end, Lsn last, uint64_t more) {
  auto known = owed();
  std::string hint;
  put_le<uint64_t>(hint, hint_magic);
  put_le<uint64_t>(hint, base);
  put_le<uint64_t>(hint, end);
  put_le<uint64_t>(hint, last);
  put_le<uint64_t>(hint, sum64(hint, m_seed));
  if (known) {
    std::string owed;
    put_le<uint64_t>(owed, end);
    put_le<uint64_t>(owed, *known + more);
    put_le<uint64_t>(owed, sum64(owed, m_seed));
    hint += owed;
  }
  // If this fails, the hint is stale, and the next append begins a new segment.
  [[maybe_unused]] ssize_t n = disk().pwrite(m_lock.get(), hint.data(), hint.size(), 0);
}

// Whether the hint's end is the end of a valid frame, or of the segment's header if it has no frame yet.
bool Journal::names_a_frame(int fd, const Hint& hint) const {
  if (!read_segment_header(fd, hint.base, m_seed)) return false;
  if (hint.end == hint.base + segment_header_size) return true;
  if (hint.last < hint.base + segment_header_size || hint.last >= hint.end) return false;
  char frame[frame_header_size];
  if (read_at(fd, frame, sizeof frame, hint.last - hint.base) != sizeof frame) return false;
  auto length = parse_frame_header(std::string_view(frame, sizeof frame), hint.last, m_seed);
  return length && hint.last + frame_header_size + *length == hint.end;
}

// Under append.lock: makes m_segment the segment to append to, and ensures that its tail is complete.
void Journal::open_for_append() {
  // The hint and the disk differ if an append was cut off, if a power cut took something, or if the hint could not be
  // written. In the last case another segment may begin where the hint says that this one ends.
  auto is_whole = [&](int fd, const Hint& hint) {
    return hint.base + file_size(fd) == hint.end && !m_directory.has(segment_name(hint.end));
  };
  // Beginning a segment needs syncs. So under a lock that other processes wait for, append() continues with the full
  // segment, until prepare() or an append without that lock begins the next one.
  auto is_full = [&](const Hint& hint) { return hint.end - hint.base >= m_segment_size && !ShortHold::is_held(); };
  if (auto hint = proven_hint(); hint && m_segment && m_segment->base == hint->base) {
    m_segment_end = hint->end - hint->base;
    if (!m_segment->failed && !is_full(*hint) && m_content <= m_segment_content && is_whole(m_segment->fd.get(), *hint))
      return;
  } else if (Fd fd = hint ? m_directory.find(segment_name(hint->base), O_RDWR) : Fd();
             fd && !is_full(*hint) && is_whole(fd.get(), *hint) && names_a_frame(fd.get(), *hint) &&
             m_content <= content_of_segment(fd.get(), hint->base) &&
             !write_again(fd.get(), hint->base, hint->end - hint->base)) {
    m_segment_content = content_of_segment(fd.get(), hint->base);
    m_segment = std::make_shared<ActiveSegment>(hint->base, std::move(fd));
    m_segment_end = hint->end - hint->base;
    m_named = false;
    return;
  }
  begin_segment(Room::intake);
}

// Under append.lock: begins a segment whose base is not below any position that was ever returned, and makes it
// m_segment. The file gets its name only after its header has been synced.
void Journal::begin_segment(Room room) {
  Lsn previous_end = 0;
  std::optional<Lsn> torn;
  auto segments = list_segments(m_directory);
  if (!segments.empty()) {
    Fd fd = m_directory.open(segment_name(segments.back()), O_RDWR);
    auto header = read_segment_header(fd.get(), segments.back(), m_seed);  // throws for a newer format
    const uint64_t size = file_size(fd.get());
    previous_end = header && header->end ? header->end : segments.back() + size;
    if (header) m_content = std::max(m_content, header->content);
    const auto not_whole = write_again(fd.get(), segments.back(), size);
    if (synced()) torn = not_whole;  // without a mark the tail may have been synced
    m_durability.finish(fd.get());
  }
  // A cleaned segment from an archive may claim positions beyond the last segment. A reader continues after them.
  for (const auto& s : this->segments()) previous_end = std::max(previous_end, s.end);
  // If synced bytes are gone, readers must report them as missing.
  previous_end = std::max(previous_end, synced().value_or(0));
  auto hint = read_hint();
  Lsn base = std::max({previous_end, hint ? hint->end : 0, segments.empty() ? 0 : segments.back() + 1});
  check_range(base, spare_size);  // the segment's header needs a valid position, too
  const std::string temporary = room == Room::completion ? spare_name : "tmp." + new_ulid();
  auto segment = std::make_shared<ActiveSegment>(
      base, m_directory.open(temporary, room == Room::completion ? O_RDWR : O_RDWR | O_CREAT | O_EXCL));
  std::string begin = segment_header(base, {.previous_end = previous_end, .content = m_content}, m_seed);
  try {
    if (torn) {
      const std::string record = encode_record(Gap{.at = now_ms(), .position = base, .since = *torn});
      put_frame_header(begin, record.size(), base + begin.size(), m_seed);
      begin += record;
    }
    write_all_at(segment->fd.get(), begin, 0, m_directory.path_of(temporary));
    if (disk().fsync(segment->fd.get()) != 0) throw_errno(Exit::storage, "sync " + m_directory.path_of(temporary));
    publish(base, base + begin.size(), torn ? base + segment_header_size : 0, 0);
    if (!m_directory.rename(temporary, segment_name(base)))
      throw_errno(Exit::storage, "rename " + m_directory.path_of(temporary));
  } catch (const Error&) {
    if (room != Room::completion) m_directory.remove(temporary);
    throw;
  }
  m_segment = std::move(segment);
  m_segment_end = begin.size();
  m_segment_content = m_content;
  m_named = false;
}

Content Journal::content_of_segment(int fd, Lsn base) const {
  const auto header = read_segment_header(fd, base, m_seed);
  return header ? header->content : Content::plain;
}

// Under append.lock: writes those records of the last segment again, through this descriptor, that are complete and not
// known to have been synced. `size` is that of the segment's file. Returns the position of the first incomplete record;
// nullopt if there is none. After a failed write-back the kernel marks the pages as clean, and only descriptors that
// were open at that moment report the error. Without this function, a sync through a descriptor opened later would
// succeed although the disk does not have the bytes. It reads at most what was appended since the last sync; after a
// power cut, at most one segment.
std::optional<Lsn> Journal::write_again(int fd, Lsn base, uint64_t size) {
  const Lsn safe = synced().value_or(0);
  if (safe >= base + size) return std::nullopt;
  JournalReader reader(*this, 0);
  if (!reader.open_segment(base) || reader.m_header_bad || reader.m_cleaned) return std::nullopt;
  reader.m_size = size;
  constexpr size_t most = 1 << 20;
  std::string group;  // frames to write; they end at `offset`
  std::optional<Lsn> torn;
  uint64_t offset = std::max(safe, base + segment_header_size) - base, frame = 0;
  auto write = [&] {
    write_all_at(fd, group, offset - group.size(), "the journal");
    group.clear();
  };
  while (offset < size) {
    if (reader.parse(offset, true, frame) == JournalReader::Frame::good &&
        (reader.data().empty() || sum64(reader.data()) == reader.head().data_sum)) {
      put_frame_header(group, frame - frame_header_size, base + offset, m_seed);
      group += reader.head_bytes();
      group += reader.data();
      offset += frame;
      if (group.size() >= most) write();
    } else {
      write();
      torn = torn.value_or(base + offset);
      offset = reader.find_frame(offset + 1).value_or(size);
    }
  }
  write();
  return torn;
}

std::optional<Journal::Tail> Journal::tail() {
  MutexLock guard(m_append_mutex);
  FileLock lock(m_lock.get(), FileLock::Mode::exclusive);
  const auto segments = list_segments(m_directory);
  if (segments.empty()) return std::nullopt;
  const Lsn base = segments.back();
  if (auto hint = proven_hint();
      hint && hint->base == base && m_segment && m_segment->base == base && !m_segment->failed) {
    sync_names();
    return Tail{m_segment, hint->end};
  }
  auto segment = std::make_shared<ActiveSegment>(base, m_directory.open(segment_name(base), O_RDWR));
  const uint64_t size = file_size(segment->fd.get());
  const auto torn = write_again(segment->fd.get(), base, size);
  m_directory.sync();
  m_store.sync();
  return Tail{std::move(segment), torn.value_or(base + size)};
}

// Under append.lock: preallocates the spare segment. Returns false and sets errno if the disk has no room for it.
bool Journal::ensure_spare() {
  if (m_directory.has(spare_name)) return true;
  const std::string temporary = "tmp." + new_ulid();
  Fd fd = m_directory.try_open(temporary, O_RDWR | O_CREAT | O_EXCL);
  if (!fd) return false;
  // The blocks are allocated beyond the end of the file, because the file's size must remain the size of its content.
  int rc = disk().fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, 0, spare_size);
  if (rc != 0 && errno == EOPNOTSUPP) rc = 0;  // then a full disk stops completions, too
  if (rc == 0 && !m_directory.rename(temporary, spare_name)) rc = -1;
  if (rc != 0) {
    int saved = errno;
    m_directory.remove(temporary);
    errno = saved;
  }
  return rc == 0;
}

uint64_t Journal::available() const {
  struct statfs fs;  // not statvfs(3), which makes the system call twice
  return disk().fstatfs(m_directory.fd(), &fs) == 0 ? fs.f_bavail * static_cast<uint64_t>(fs.f_frsize) : UINT64_MAX;
}

bool Journal::has_room(uint64_t size, uint64_t run, std::optional<uint64_t> owed) {
  m_durability.check(*this);
  if (!owed) owed = this->owed();
  struct statfs fs;
  if (disk().fstatfs(m_directory.fd(), &fs) != 0) return true;
  if (!owed && fs.f_bavail < fs.f_blocks / 2) return false;
  return fs.f_bavail * static_cast<uint64_t>(fs.f_frsize) >=
         size + spare_size + run + owed.value_or(0);  // append() preallocates the spare segment
}

bool Journal::check_claim_room() {
  m_durability.check(*this);
  MutexLock guard(m_append_mutex);
  FileLock lock(m_lock.get(), FileLock::Mode::exclusive);
  bool spare = ensure_spare();
  prepare_locked();
  if (available() >= spare_size) return true;
  if (spare) return false;
  // When the spare segment is in use, it is the last segment, and its remaining space is preallocated after its end.
  auto hint = read_hint();
  struct stat st;
  if (hint && m_directory.look_at(segment_name(hint->base), st) &&
      st.st_blocks * 512 - st.st_size >= static_cast<off_t>(claim_reserve))
    return false;
  errno = ENOSPC;
  throw_errno(Exit::storage, "set room aside for how jobs end");
}

void Journal::prepare() {
  MutexLock guard(m_append_mutex);
  FileLock lock(m_lock.get(), FileLock::Mode::exclusive);
  prepare_locked();
}

// Under append.lock. Ignores a full disk, because append() may still use the spare segment.
void Journal::prepare_locked() {
  m_prepared = true;
  if (!m_segment && list_segments(m_directory).empty()) return;
  try {
    open_for_append();
    sync_names();
  } catch (const Error& e) {
    if (!is_disk_full(e.error_number())) throw;
  }
}

// Under append.lock: makes the names of m_segment and of the journal's directory durable. A process always does this
// itself, and never relies on another process.
void Journal::sync_names() {
  if (m_named) return;
  try {
    m_directory.sync();
    m_store.sync();
  } catch (const Error&) {
    m_segment->failed = true;  // a second sync might succeed although the names are lost
    throw;
  }
  m_named = true;
}

std::vector<Placed> Journal::append(const std::vector<RecordBytes>& records, Room room) {
  MutexLock guard(m_append_mutex);
  FileLock lock(m_lock.get(), FileLock::Mode::exclusive);
  if (room == Room::intake && !ensure_spare()) throw_errno(Exit::storage, "append to the journal");
  for (const auto& r : records) check_length(r);
  for (const auto& r : records) m_content = std::max(m_content, content_of(r.head));
  std::vector<Placed> placed(records.size());
  // This may need syncs that prepare() could not foresee or do: another process has begun a segment since, the last
  // segment is broken, or the disk was full.
  std::optional<LongWorkInHold> unforeseen;
  if (m_segment || m_prepared) unforeseen.emplace();
  auto write = [&]() REQUIRES(m_append_mutex) {
    sync_names();
    constexpr size_t keep = 1 << 20;
    if (m_group.capacity() > keep) m_group = {};
    std::string& group = m_group;
    group.clear();
    Lsn start = m_segment->base + m_segment_end;
    for (size_t i = 0; i < records.size(); ++i) {
      placed[i].lsn = start + group.size();
      put_frame_header(group, records[i].size(), placed[i].lsn, m_seed);
      group += records[i].head;
      group += records[i].data;
      placed[i].end = start + group.size();
    }
    check_range(start, group.size());
    try {
      write_all_at(m_segment->fd.get(), group, m_segment_end, "the journal");
    } catch (const Error&) {
      // Only the process that wrote may truncate its own short write, while it still holds the lock. If that fails, the
      // hint and the file's size differ, so the next append finds that this tail is not whole.
      if (disk().ftruncate(m_segment->fd.get(), static_cast<off_t>(m_segment_end)) != 0)
        throw_errno(Exit::retry, "cut back a short write to the journal");
      throw;
    }
    uint64_t heads = 0;
    for (const auto& r : records) heads += r.head.size();
    publish(m_segment->base, placed.back().end, placed.back().lsn,
            room == Room::intake ? room_to_run(records.size(), heads) : 0);
    m_durability.wrote(m_segment, placed.back().end);
  };
  try {
    open_for_append();
    write();
  } catch (const Error& e) {
    if (room != Room::completion || !is_disk_full(e.error_number()) || !m_directory.has(spare_name)) throw;
    begin_segment(Room::completion);
    write();
  }
  return placed;
}

Lsn Journal::end() const {
  if (auto hint = proven_hint()) return hint->end;
  auto all = segments();
  return all.empty() ? 0 : all.back().end;
}

std::vector<Placed> Journal::commit(const std::vector<RecordBytes>& records, Room room,
                                    const std::function<void(Lsn from, Lsn end)>& appended) {
  auto placed = append(records, room);
  if (appended) appended(placed.front().lsn, placed.back().end);
  return make_safe(records, std::move(placed), room);
}

std::vector<Placed> Journal::make_safe(const std::vector<RecordBytes>& records, std::vector<Placed> placed, Room room) {
  if (sync(placed.front().lsn, placed.back().end)) return placed;
  try {
    placed = append(records, room);
    if (sync(placed.front().lsn, placed.back().end)) return placed;
  } catch (const Error& e) {
    throw Error(Exit::retry, std::string(e.what()) + ", after a failed sync: whether the job is queued is unknown");
  }
  throw Error(Exit::retry, "cannot sync the journal, twice: whether the job is queued is unknown");
}

std::vector<SegmentInfo> Journal::segments() const {
  std::vector<SegmentInfo> all;
  for (Lsn base : list_segments(m_directory)) {
    if (!all.empty() && all.back().cleaned && base < all.back().end) continue;
    struct stat st;
    Fd fd = m_directory.find(segment_name(base), O_RDONLY);
    if (!fd) continue;  // the cleaner has removed it since
    if (disk().fstat(fd.get(), &st) != 0)
      throw_errno(Exit::storage, "look at " + m_directory.path_of(segment_name(base)));
    auto header = read_segment_header(fd.get(), base, m_seed);
    SegmentInfo& s = all.emplace_back();
    s.base = base;
    s.size = static_cast<uint64_t>(st.st_size);
    s.end = header && header->end ? header->end : base + s.size;
    s.cleaned = header && header->end;
    s.cleaned_at = header ? header->cleaned_at : 0;
    s.previous_end = header ? header->previous_end : base;
    s.changed_at = Millis(st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000);
  }
  // A segment that was never cleaned ends where the next one begins, even if its tail is incomplete.
  for (size_t i = 0; i + 1 < all.size(); ++i)
    if (!all[i].cleaned) all[i].end = all[i + 1].base;
  return all;
}

std::pair<Lsn, std::vector<SegmentInfo>> Journal::snapshot() {
  MutexLock guard(m_append_mutex);
  // Under the lock no other process can append, so the last segment ends where its file ends.
  FileLock lock(m_lock.get(), FileLock::Mode::exclusive);
  auto all = segments();
  Lsn end = all.empty() ? 0 : all.back().end;
  return {end, std::move(all)};
}

CleanedSegment::CleanedSegment(const Journal& journal, Lsn base, Lsn previous_end)
    : m_journal(journal),
      m_base(base),
      m_previous_end(previous_end),
      m_temporary("tmp." + new_ulid()),
      m_fd(journal.directory().open(m_temporary, O_RDWR | O_CREAT | O_EXCL)),
      m_buffer(cleaned_header_size, '\0'),  // finish() writes the header
      m_size(cleaned_header_size) {}

CleanedSegment::~CleanedSegment() {
  if (!m_temporary.empty()) m_journal.directory().remove(m_temporary);
}

void CleanedSegment::add(Lsn lsn, std::string_view head, std::string_view data) {
  m_content = std::max(m_content, content_of(head));
  put_frame_header(m_buffer, head.size() + data.size(), lsn, m_journal.seed() + m_size, cleaned_frame_magic);
  m_buffer += head;
  m_buffer += data;
  m_size += frame_header_size + head.size() + data.size();
  if (m_buffer.size() >= (1 << 20)) write();
}

void CleanedSegment::write() {
  write_all_at(m_fd.get(), m_buffer, m_size - m_buffer.size(), m_journal.directory().path_of(m_temporary));
  m_buffer.clear();
}

void CleanedSegment::finish(Lsn end, Lsn cleaned_at) {
  write();
  write_all_at(m_fd.get(),
               segment_header(m_base, {m_previous_end, end, cleaned_at, m_size, m_content}, m_journal.seed()), 0,
               m_journal.directory().path_of(m_temporary));
  if (disk().fsync(m_fd.get()) != 0) throw_errno(Exit::storage, "sync " + m_journal.directory().path_of(m_temporary));
}

void CleanedSegment::publish() {
  const Directory& directory = m_journal.directory();
  if (!directory.rename(m_temporary, segment_name(m_base)))
    throw_errno(Exit::storage, "rename " + directory.path_of(m_temporary));
  m_temporary.clear();
  directory.sync();
}

// ---------------------------------------------------------------------------------------------------------- reading

JournalReader::JournalReader(Journal& journal, Lsn from) : m_journal(journal), m_position(from) {}

// Opens a segment. Returns false if it does not exist.
bool JournalReader::open_segment(Lsn base) {
  Fd fd = m_journal.directory().find(segment_name(base), O_RDONLY);
  if (!fd) return false;
  m_fd.reset();  // if a call below fails, no segment is open, and the next read opens one again
  m_base = base;
  m_size = 0;
  m_longer = false;
  m_torn.reset();
  m_window.clear();
  m_window_offset = 0;
  auto header = read_segment_header(fd.get(), base, m_journal.m_seed);
  m_header_bad = !header;
  m_cleaned = false;
  m_previous_end = header ? header->previous_end : base;
  if (header && header->end) {
    m_cleaned = true;
    m_end = header->end;
    m_whole_size = header->size;
    m_offset = cleaned_header_size;
  } else if (!header) {
    // The header is damaged. The first frame may show that this is a cleaned segment, but the end of the range that it
    // replaces is unknown.
    char bytes[frame_header_size];
    std::string_view frame(bytes, read_at(fd.get(), bytes, sizeof bytes, cleaned_header_size));
    m_cleaned = parse_frame_header(frame, cleaned_frame_magic, m_journal.m_seed + cleaned_header_size).has_value();
    m_end = base + 1;
    m_whole_size = 0;
    m_offset = 0;
  }
  if (m_cleaned) m_size = file_size(fd.get());
  m_fd = std::move(fd);
  return true;
}

// Determines how far the segment may be read. Returns true if that is beyond `offset`. If another segment follows, this
// segment is final, and may be read completely. The last segment may be read to the published end, because a writer may
// still truncate the bytes after it. If there are bytes after the published end and no writer holds the lock, a writer
// has died and left them.
bool JournalReader::extend(uint64_t offset) {
  auto hint = m_journal.proven_hint();
  if (hint && hint->base == m_base && hint->end > m_base + offset) {
    m_size = std::min(hint->end - m_base, file_size(m_fd.get()));
  } else {
    auto segments = list_segments(m_journal.directory());
    auto after = std::upper_bound(segments.begin(), segments.end(), m_base);
    if (after != segments.end()) {
      uint64_t whole = file_size(m_fd.get()), limit = *after - m_base;
      m_longer = whole > limit && m_size < limit;  // so that it is reported once
      m_size = std::min(whole, limit);
    } else if (file_size(m_fd.get()) > offset) {
      MutexLock guard(m_journal.m_append_mutex);
      FileLock lock(m_journal.m_lock.get(), FileLock::Mode::exclusive);
      m_size = file_size(m_fd.get());
    }
  }
  return m_size > offset;
}

// Reads at least `size` bytes at `offset` into the window. Returns false if the file ends before.
bool JournalReader::fill(uint64_t offset, uint64_t size) {
  if (offset + size > m_size) return false;
  if (offset >= m_window_offset && offset + size <= m_window_offset + m_window.size()) return true;
  // Read ahead more and more while the reader goes through the file without gaps. A reader that skips the data of large
  // records, or looks up single records, jumps: it would not use most of the bytes read ahead.
  constexpr uint64_t least_ahead = 4096, most_ahead = 1 << 20;
  const bool goes_on = offset >= m_window_offset && offset <= m_window_offset + m_window.size();
  m_ahead = goes_on ? std::clamp(2 * m_ahead, least_ahead, most_ahead) : least_ahead;
  m_window.resize(std::min(std::max(size, m_ahead), m_size - offset));
  m_window_offset = UINT64_MAX;  // if the read fails, the window has no valid bytes
  size_t n = read_at(m_fd.get(), m_window.data(), m_window.size(), offset);
  m_window_offset = offset;
  m_window.resize(n);
  return n >= size;
}

JournalReader::Frame JournalReader::parse(uint64_t offset, bool with_data, uint64_t& frame_size) {
  if (!fill(offset, frame_header_size)) return Frame::bad;
  auto window = [&](uint64_t at, uint64_t size) {
    return std::string_view(m_window).substr(at - m_window_offset, size);
  };
  auto header = frame_at(window(offset, frame_header_size), offset);
  if (!header || offset + frame_header_size + header->second > m_size) return Frame::bad;
  m_frame_lsn = header->first;
  const uint64_t length = header->second;
  frame_size = frame_header_size + length;
  uint64_t at = offset + frame_header_size;
  if (!fill(at, record_header_size)) return Frame::bad;
  auto sizes = peek_record(window(at, record_header_size));
  if (!sizes || sizes->head_size > length) return Frame::bad_record;
  if (!fill(at, with_data ? length : sizes->head_size)) return Frame::bad;
  m_head = parse_record_head(window(at, sizes->head_size));
  if (!m_head || !understand(*m_head, meta_of(*m_head, window(at, sizes->head_size)))) return Frame::bad_record;
  m_without_data = m_cleaned && length == m_head->head_size && m_head->inline_size() > 0;
  if (!m_without_data && m_head->head_size + m_head->inline_size() != length) return Frame::bad_record;
  m_head_bytes = window(at, m_head->head_size);
  m_data = with_data && !m_without_data ? window(at + m_head->head_size, m_head->inline_size()) : std::string_view();
  return Frame::good;
}

// `bytes` is the frame header at `offset`. Returns the LSN and the length of the frame's record; nullopt if the frame
// does not belong to this segment.
std::optional<std::pair<Lsn, uint64_t>> JournalReader::frame_at(std::string_view bytes, uint64_t offset) const {
  if (m_cleaned) {
    auto frame = parse_frame_header(bytes, cleaned_frame_magic, m_journal.m_seed + offset);
    // Refuse a frame outside the range that the segment replaces. If the segment's header is damaged, the end of the
    // range is unknown.
    const Lsn end = m_header_bad ? max_lsn : m_end;
    return frame && frame->first >= m_base && frame->first < end ? frame : std::nullopt;
  }
  auto length = parse_frame_header(bytes, m_base + offset, m_journal.m_seed);
  if (!length) return std::nullopt;
  return std::pair(m_base + offset, *length);
}

std::optional<uint64_t> JournalReader::find_frame(uint64_t from) {
  for (uint64_t offset = from; offset + frame_header_size <= m_size; ++offset) {
    if (!fill(offset, frame_header_size)) return std::nullopt;
    std::string_view rest = std::string_view(m_window).substr(offset - m_window_offset);
    // Jump to the next byte that may begin a magic.
    size_t at = rest.find(static_cast<char>(frame_magic & 0xff));
    if (at == std::string_view::npos) {
      offset += rest.size() - 1;
      continue;
    }
    offset += at;
    if (!fill(offset, frame_header_size)) return std::nullopt;
    rest = std::string_view(m_window).substr(offset - m_window_offset, frame_header_size);
    if (frame_at(rest, offset)) return offset;
  }
  return std::nullopt;
}

// Whether the bytes from `offset` to the end of the segment are only the beginning of a frame: an append that was never
// finished, and so never acknowledged. Also true if the bytes are all zeros: some file systems show zeros if a power
// cut came after the file's size was written and before its content.
bool JournalReader::only_cut_short(uint64_t offset) {
  if (offset >= m_size || m_size - offset > frame_header_size + max_frame_record) return false;
  if (!fill(offset, m_size - offset)) return false;
  std::string_view rest = std::string_view(m_window).substr(offset - m_window_offset, m_size - offset);
  std::string start;
  put_le<uint32_t>(start, frame_magic);
  if (rest.size() < frame_header_size) return rest.substr(0, 4) == start.substr(0, rest.size());
  if (auto length = parse_frame_header(rest, m_base + offset, m_journal.m_seed))
    return rest.size() < frame_header_size + *length;
  return rest.find_first_not_of('\0') == std::string_view::npos;
}

bool JournalReader::never_synced() {
  if (!m_fd) return false;
  if (!m_torn || m_lsn >= m_torn->second) m_torn = next_torn();
  return m_torn && m_lsn >= m_torn->first && m_lsn < m_torn->second;
}

// Returns the next range of positions, from m_lsn on, that was never synced: the Gap record behind it says so. In a
// cleaned segment, which may have replaced several segments, such a record may also be between other ones. Returns an
// empty range behind all positions if there is none, and nullopt if no segment follows yet.
std::optional<std::pair<Lsn, Lsn>> JournalReader::next_torn() const {
  JournalReader later(m_journal, m_lsn + 1);
  auto named = [&]() -> std::optional<std::pair<Lsn, Lsn>> {
    const std::string_view meta = meta_of(later.head(), later.head_bytes());
    Gap gap;
    if (type_of(meta) != Gap::type || !read_fields(meta, gap) || !is_at_begin(gap, later.m_frame_lsn) ||
        gap.position <= m_lsn)
      return std::nullopt;
    return std::pair(gap.since, gap.position);
  };
  if (m_cleaned && later.open_segment(m_base) && later.m_cleaned) {
    later.m_offset = m_offset;
    while (const auto item = later.next_cleaned(false))
      if (auto torn = *item == Item::record ? named() : std::nullopt) return torn;
  }
  const auto segments = list_segments(m_journal.directory());
  const auto after = std::upper_bound(segments.begin(), segments.end(), m_base);
  if (after == segments.end()) return std::nullopt;
  constexpr std::pair<Lsn, Lsn> none{UINT64_MAX, UINT64_MAX};
  if (!later.open_segment(*after) || later.m_header_bad) return none;
  later.m_size = file_size(later.m_fd.get());
  uint64_t size = 0;
  const uint64_t first = later.m_cleaned ? cleaned_header_size : segment_header_size;
  return later.parse(first, false, size) == Frame::good ? named().value_or(none) : none;
}

// Opens the segment that contains m_position, or else the first segment after m_position. Returns false if there is
// none. The cleaner may replace segments meanwhile, so this function tries again if a segment is gone.
bool JournalReader::next_segment() {
  for (int tries = 0; tries < 100; ++tries) {
    auto segments = list_segments(m_journal.directory());
    auto after = std::upper_bound(segments.begin(), segments.end(), m_position);
    if (after != segments.begin()) {
      Lsn base = *std::prev(after);
      bool other = !m_fd || base != m_base;
      if (!other) {  // a cleaned segment may have taken its name and replaced a longer range
        Fd fd = m_journal.directory().find(segment_name(base), O_RDONLY);
        auto header = fd ? read_segment_header(fd.get(), base, m_journal.m_seed) : std::nullopt;
        other = header && header->end > m_position;
      }
      if (other) {
        if (open_segment(base)) return true;
        continue;  // the cleaner has removed it since
      }
      // When this segment was read to its end, no other one may have followed. It may have grown since.
      if (!m_cleaned && after != segments.end() && extend(m_position - m_base)) return true;
    }
    if (after == segments.end()) return false;
    if (open_segment(*after)) return true;
  }
  return false;
}

// Returns the next record of a cleaned segment at or after m_position, or damage; nullopt at the end of the segment.
std::optional<JournalReader::Item> JournalReader::next_cleaned(bool with_data) {
  while (m_offset < m_size) {
    uint64_t size = 0;
    Frame frame = parse(m_offset, with_data, size);
    if (frame == Frame::bad) {
      auto found = find_frame(m_offset + 1);
      m_offset = found.value_or(m_size);
      Lsn upto = m_end;
      if (found && fill(*found, frame_header_size))
        upto = frame_at(std::string_view(m_window).substr(*found - m_window_offset, frame_header_size), *found)->first;
      if (upto <= m_position) continue;
      m_lsn = std::exchange(m_position, upto);
      return Item::damage;
    }
    m_offset += size;
    if (m_frame_lsn < m_position) continue;
    m_lsn = m_frame_lsn;
    m_position = m_lsn + 1;
    return frame == Frame::good ? Item::record : Item::damage;
  }
  if ((m_size < m_whole_size || m_header_bad) && m_position < m_end) {  // records may have been cut off
    m_lsn = std::exchange(m_position, m_end);
    return Item::damage;
  }
  return std::nullopt;
}

JournalReader::Item JournalReader::next(bool with_data) {
  const Lsn position = m_position;
  try {
    Item item = step(with_data);
    if (item == Item::damage) m_journal.durability().report_damage();
    return item;
  } catch (...) {  // the next call begins again at the same position, so that nothing is passed by
    m_fd.reset();
    m_position = position;
    throw;
  }
}

JournalReader::Item JournalReader::step(bool with_data) {
  if (!m_fd && !next_segment()) return Item::end;
  bool first = m_position < m_base;  // there is no segment before this one
  for (;;) {
    if (m_position < m_base) {  // a new segment has been opened, and it begins after the last position read
      m_lsn = m_position;
      m_position = m_base;
      // A power cut may leave a gap of positions that were never synced. If, according to the segment's header, the
      // segment before it ended at another position, records are missing.
      if (m_previous_end != (first ? 0 : m_lsn)) return Item::missing;
    }
    if (m_cleaned) {
      if (auto item = next_cleaned(with_data)) return *item;
      m_position = std::max(m_position, m_end);
      if (!next_segment()) return Item::end;
      continue;
    }
    uint64_t offset = m_position - m_base;
    if (offset >= m_size && !extend(offset)) {
      if (std::exchange(m_longer, false)) {
        m_lsn = m_position;
        return Item::damage;
      }
      if (!next_segment()) return Item::end;
      continue;
    }
    if (offset == 0 && !m_header_bad) {
      m_position = m_base + segment_header_size;
      continue;
    }
    uint64_t frame_size = 0;
    Frame frame = parse(offset, with_data, frame_size);
    m_lsn = m_position;
    if (frame != Frame::bad) {
      m_position += frame_size;
      return frame == Frame::good ? Item::record : never_synced() ? Item::torn : Item::damage;
    }
    if (auto found = find_frame(offset + 1)) {
      m_position = m_base + *found;
      return never_synced() ? Item::torn : Item::damage;
    }
    auto segments = list_segments(m_journal.directory());
    if (segments.empty() || segments.back() <= m_base) return Item::end;  // the next append will begin a new segment
    bool torn = only_cut_short(offset) || never_synced();
    m_position = m_base + m_size;
    return torn ? Item::torn : Item::damage;
  }
}

uint64_t JournalReader::unread() {
  if (!m_fd || m_cleaned) return 0;
  uint64_t offset = m_position - m_base;
  if (offset >= m_size && !extend(offset)) return 0;
  return only_cut_short(offset) ? 0 : m_size - offset;
}

bool JournalReader::read_record_at(Lsn lsn, bool with_data) {
  if (!m_fd || lsn < m_base || lsn >= (m_cleaned ? m_end : m_base + m_size)) {
    m_fd.reset();
    m_position = lsn;
    auto hint = m_journal.proven_hint();  // most records that are looked up are in the last segment
    const bool is_last = hint && hint->base <= lsn && lsn < hint->end;  // the hint may be old
    if (!(is_last && open_segment(hint->base)) && !next_segment()) return false;
  }
  if (m_cleaned) {
    if (lsn < m_position) m_offset = cleaned_header_size, m_torn.reset();
    m_position = lsn;
    return next_cleaned(with_data) == Item::record && m_lsn == lsn;
  }
  m_lsn = m_position = lsn;
  if (lsn < m_base + segment_header_size) return false;
  uint64_t offset = lsn - m_base, frame_size = 0;
  if (offset >= m_size && !extend(offset)) return false;
  return parse(offset, with_data, frame_size) == Frame::good;
}

}  // namespace gq

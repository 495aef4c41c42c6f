// What one command prints on its standard output, as far as it is to be kept with the end of its job. Beyond
// max_inline_data it stands in a file of the store, which becomes the blob. A file that a crash leaves is removed by
// Cleaner::sweep().
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "gq/state/event.hpp"
#include "gq/store/blobs.hpp"

namespace gq {

inline constexpr const char* no_output_room = "there is no room for it";

class Capture {
 public:
  // Keeps at most `limit` bytes: of a larger output, nothing. `blobs` is the directory for the file. `has_room` returns
  // whether the disk has room for so many bytes more, besides the room that jobs need.
  using HasRoom = std::function<bool(uint64_t)>;
  Capture(Directory blobs, uint64_t limit, HasRoom has_room)
      : m_blobs(std::move(blobs)), m_limit(limit), m_has_room(std::move(has_room)) {}
  ~Capture() { drop(); }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // More output. If it cannot be kept, it is dropped, and kept() says why.
  void add(std::string_view data);
  // The rest of it cannot be read: a part is never kept.
  void fail(const std::string& why);
  // Of an output that is thrown away: it counts as empty.
  void clear();

  // What has become of the output so far: whole, too_large or no_room; and in the last case, why.
  Kept kept() const { return m_kept; }
  const std::string& reason() const { return m_reason; }
  // The same for something that uses only outputs up to this size; nullopt: none.
  Kept kept_within(std::optional<uint64_t> limit) const;
  // All of it, if it is whole. Throws Error(storage).
  std::string read() const;
  // The file that holds all of it; empty if it is in memory.
  Arrived& file() { return m_file; }

 private:
  void drop();
  void stop(Kept why);

  const Directory m_blobs;
  const uint64_t m_limit;
  const HasRoom m_has_room;
  Kept m_kept = Kept::whole;
  std::string m_reason;
  uint64_t m_size = 0;
  std::string m_data;  // all of it, or what the file does not have yet
  Arrived m_file;
};

}  // namespace gq

// A Capture collects what one command prints on its standard output, if this is kept with the end of its job or becomes
// jobs. An output over max_inline_data is written to a file of the store, which becomes the blob. If a crash leaves
// such a file, Cleaner::sweep() removes it.
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
  // Keeps an output of at most `limit` bytes; of a larger output it keeps nothing. `blobs` is the directory for the
  // file. `has_room` returns whether the disk has room for this many more bytes, besides the room that jobs need.
  using HasRoom = std::function<bool(uint64_t)>;
  Capture(Directory blobs, uint64_t limit, HasRoom has_room)
      : m_blobs(std::move(blobs)), m_limit(limit), m_has_room(std::move(has_room)) {}
  ~Capture() { drop(); }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // Adds more output. If the output can no longer be kept, drops all of it; kept() then says why.
  void add(std::string_view data);
  // Call it if the rest of the output cannot be read. Drops all of the output, because a part is never kept.
  void fail(const std::string& why);
  // Call it if the output is to be discarded: it then counts as empty.
  void clear();

  // kept() returns what has become of the output so far: whole, too_large or no_room. reason() returns why there is no
  // room.
  Kept kept() const { return m_kept; }
  const std::string& reason() const { return m_reason; }
  // Returns the same for a use that accepts only outputs up to this size; nullopt: that accepts none.
  Kept kept_within(std::optional<uint64_t> limit) const;
  // Returns all of the output. Call it only if kept() is whole. Throws Error(storage).
  std::string read() const;
  // Returns the file that holds all of the output; an empty one if the output is in memory.
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

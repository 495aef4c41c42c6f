#include "gq/work/capture.hpp"

#include <fcntl.h>

#include "gq/base/error.hpp"
#include "gq/base/ulid.hpp"
#include "gq/journal/record.hpp"

namespace gq {

void Capture::add(std::string_view data) {
  if (m_kept != Kept::whole) return;
  if (data.size() > m_limit - m_size) return stop(Kept::too_large);
  m_size += data.size();
  m_data += data;
  if (m_size <= max_inline_data) return;
  try {
    if (!m_has_room(m_data.size())) throw Error(Exit::storage, no_output_room);
    if (m_file.name.empty()) {
      const std::string name = "tmp." + new_ulid();
      m_file.file = m_blobs.open(name, O_RDWR | O_CREAT | O_EXCL);
      m_file.name = name;
      // While it is locked, Cleaner::sweep() leaves it.
      if (!try_lock(m_file.file.get(), FileLock::Mode::shared)) throw Error(Exit::storage, "cannot lock a new file");
    }
    write_all_at(m_file.file.get(), m_data, m_size - m_data.size(), m_file.name);
    m_data.clear();
  } catch (const Error& e) {
    fail(e.what());
  }
}

void Capture::fail(const std::string& why) {
  if (m_kept != Kept::whole) return;
  stop(Kept::no_room);
  m_reason = why;
}

void Capture::clear() {
  drop();
  m_kept = Kept::whole;
  m_reason.clear();
  m_size = 0;
}

Kept Capture::kept_within(std::optional<uint64_t> limit) const {
  if (!limit) return Kept::not_asked;
  return m_kept == Kept::whole && m_size > *limit ? Kept::too_large : m_kept;
}

std::string Capture::read() const {
  if (m_file.name.empty()) return m_data;
  std::string data(m_size, '\0');
  if (read_at(m_file.file.get(), data.data(), data.size(), 0) != data.size())
    throw Error(Exit::storage, "cannot read the output of a command: its file is too short");
  return data;
}

void Capture::drop() {
  m_data.clear();
  if (!m_file.name.empty()) m_blobs.remove(m_file.name);  // false if it has become the blob
  m_file = {};
}

void Capture::stop(Kept why) {
  drop();
  m_kept = why;
}

}  // namespace gq

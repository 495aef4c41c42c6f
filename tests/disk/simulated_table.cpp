#include "simulated_table.hpp"

#include <fcntl.h>

#include <cerrno>
#include <map>
#include <utility>

#include "gq/base/bytes.hpp"
#include "gq/base/disk.hpp"
#include "gq/journal/record.hpp"
#include "gq/state/map_table.hpp"
#include "simulated_disk.hpp"

namespace simulate {
namespace {

constexpr size_t head_size = 17;  // sum u64, kind u8, sizes of key and value u32
enum class Kind : char { put = 1, remove, commit };

std::string encode(Kind kind, std::string_view key, std::string_view value) {
  std::string rest(1, static_cast<char>(kind));
  gq::put_le<uint32_t>(rest, static_cast<uint32_t>(key.size()));
  gq::put_le<uint32_t>(rest, static_cast<uint32_t>(value.size()));
  rest.append(key).append(value);
  std::string record;
  gq::put_le<uint64_t>(record, gq::sum64(rest));
  record += rest;
  record.resize((record.size() + sector - 1) / sector * sector);
  return record;
}

class SimulatedTable final : public gq::IndexTable {
 public:
  SimulatedTable(const gq::Directory& directory, const std::string& name, Use use, std::function<void()> before_write)
      : m_use(use), m_before_write(std::move(before_write)) {
    m_file = directory.try_open(name, use == Use::read ? O_RDWR : O_RDWR | O_CREAT);
    if (!m_file) fail(errno);
    if (use == Use::temporary) directory.remove(name);
    try {
      load();
    } catch (const gq::Error& e) {
      fail(e.error_number());
    }
  }

  std::optional<std::string> get(std::string_view key) override { return m_map.get(key); }
  void put(std::string_view key, std::string_view value) override {
    m_map.put(key, value);
    m_written += encode(Kind::put, key, value);
  }
  void remove(std::string_view key) override {
    m_map.remove(key);
    m_written += encode(Kind::remove, key, {});
  }
  std::unique_ptr<Cursor> walk(std::string_view from) override { return m_map.walk(from); }

  void commit() override {
    if (m_written.empty()) return;
    if (m_use == Use::read) {
      m_before_write();
      m_use = Use::write;
    }
    m_written += encode(Kind::commit, {}, {});
    try {
      // What a process left that died.
      if (gq::file_size(m_file.get()) > m_end && gq::disk().ftruncate(m_file.get(), static_cast<off_t>(m_end)) != 0)
        fail(errno);
      gq::write_all_at(m_file.get(), m_written, m_end, "the index");
    } catch (const gq::Error& e) {
      fail(e.error_number());
    }
    m_end += m_written.size();
    m_written.clear();
  }
  void close() override {
    commit();
    m_file.reset();
  }

  uint64_t count() const override { return m_map.all().size(); }
  uint64_t file_size() const override { return m_end; }

 private:
  [[noreturn]] void fail(int error) const {
    if (m_use == Use::temporary) throw gq::Error(gq::Exit::storage, "cannot use a temporary table");
    if (gq::is_disk_full(error)) throw gq::TableFull(error);
    throw gq::TableError("it cannot be read or written");
  }

  // Takes what is there. Sectors that make no record have been lost.
  void load() {
    std::string bytes(gq::file_size(m_file.get()), '\0');
    bytes.resize(gq::read_at(m_file.get(), bytes.data(), bytes.size(), 0));
    std::vector<std::string_view> pending;
    for (size_t at = 0; at + head_size <= bytes.size();) {
      const auto record = std::string_view(bytes).substr(at);
      const uint64_t size = uint64_t{gq::get_le<uint32_t>(record, 9)} + gq::get_le<uint32_t>(record, 13);
      if (size > record.size() - head_size ||
          gq::sum64(record.substr(8, head_size - 8 + size)) != gq::get_le<uint64_t>(record, 0)) {
        at += sector;
        continue;
      }
      at += (head_size + size + sector - 1) / sector * sector;
      if (static_cast<Kind>(record[8]) != Kind::commit) {
        pending.push_back(record);
        continue;
      }
      for (auto entry : std::exchange(pending, {})) apply(entry);
      m_end = at;
    }
  }
  void apply(std::string_view record) {
    const auto key_size = gq::get_le<uint32_t>(record, 9), value_size = gq::get_le<uint32_t>(record, 13);
    const auto key = record.substr(head_size, key_size);
    if (static_cast<Kind>(record[8]) == Kind::put) m_map.put(key, record.substr(head_size + key_size, value_size));
    else m_map.remove(key);
  }

  Use m_use;
  const std::function<void()> m_before_write;
  gq::Fd m_file;
  gq::MapTable m_map;
  std::string m_written;  // since the last commit, as records
  uint64_t m_end = 0;     // of the last commit
};

}  // namespace

std::unique_ptr<gq::IndexTable> open_simulated_table(const gq::Directory& directory, const std::string& name,
                                                     gq::IndexTable::Use use, std::function<void()> before_write) {
  return std::make_unique<SimulatedTable>(directory, name, use, std::move(before_write));
}

}  // namespace simulate

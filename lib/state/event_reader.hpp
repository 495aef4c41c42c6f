// Reads a journal's records as events. It reports a record that it cannot decode as damage, like a record that it
// cannot read.
#pragma once

#include "gq/journal/journal.hpp"
#include "gq/state/event.hpp"

namespace gq {

class EventReader : public JournalReader {
 public:
  using JournalReader::JournalReader;
  // The event of the record; valid until the next call of next() or read_record_at().
  const Event& event() const { return m_event; }

 private:
  bool understand(const RecordHead& head, std::string_view meta) override {
    return parse_event(meta, head.data_size, m_event);
  }
  Event m_event;
};

}  // namespace gq

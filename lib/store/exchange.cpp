#include "gq/store/exchange.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr size_t most_records = 1000;  // how many records are looked up in one visit to the index
constexpr uint64_t piece = 1 << 20;

// Writes the bytes of a workload in pieces.
void write_workload(const Workload& workload, uint64_t size, const std::function<void(std::string_view)>& write) {
  if (!workload.blob) return write(workload.data);
  std::string buffer;
  for (uint64_t done = 0; done < size;) {
    buffer.resize(std::min(piece, size - done));
    size_t n = read_at(workload.blob.get(), buffer.data(), buffer.size(), workload.offset + done);
    if (n == 0) throw Error(Exit::storage, "cannot read " + workload.path + ": it is too short");
    write(std::string_view(buffer).substr(0, n));
    done += n;
  }
}

}  // namespace

NewJob with_data(event::Add add, std::string data) {
  NewJob job;
  job.add = std::move(add);
  job.take_data(std::make_shared<const std::string>(std::move(data)));
  job.encode();
  return job;
}

namespace {

// Writes one stream after the other.
class Writer {
 public:
  Writer(Ledger& ledger, const Selection& selection, const std::function<void(std::string_view)>& write,
         const std::function<void(const std::string& what)>& left_out)
      : m_ledger(ledger), m_selection(selection), m_write(write), m_left_out(left_out), m_workloads(ledger.read(0)) {}

  // Writes the jobs that wait for no other job. Returns how many jobs were written, here and below.
  uint64_t write_free() {
    begin(stream_version);
    EventReader reader = m_ledger.read(0);
    for (bool more = true; more;) {
      std::vector<Found> found;
      while (found.size() < most_records) {
        auto item = reader.next();
        more = item != JournalReader::Item::end;
        if (!more) break;
        if (item == JournalReader::Item::damage || item == JournalReader::Item::missing)
          m_left_out("cannot read " + std::to_string(reader.position() - reader.lsn()) +
                     " bytes of the journal, in which jobs may be");
        if (item != JournalReader::Item::record) continue;
        if (auto* add = std::get_if<event::Add>(&reader.event())) found.push_back({reader.lsn(), *add, {}, {}});
      }
      look_up(found);
      for (auto& f : found) {
        if (!is_wanted(f)) continue;
        if (f.job->after > 0) m_with_parents.push_back(f.lsn);
        else put(f);
      }
    }
    return end();
  }

  // Writes the jobs that have parents, if there are any.
  uint64_t write_rest() {
    if (m_with_parents.empty()) return 0;
    begin(parents_version);
    EventReader reader = m_ledger.read(0);
    for (const Lsn lsn : m_with_parents) {
      std::vector<Found> found;
      if (auto* add = reader.read_record_at(lsn, false) ? std::get_if<event::Add>(&reader.event()) : nullptr)
        found.push_back({lsn, *add, {}, {}});
      else m_left_out("cannot read a job in the journal at " + std::to_string(lsn));
      look_up(found);
      for (auto& f : found)
        if (is_wanted(f)) put(f);
    }
    return end();
  }

 private:
  struct Found {
    Lsn lsn;
    event::Add add;
    std::optional<Job> job;
    std::vector<std::string> parents;  // for which it waits
  };

  void write(std::string_view bytes) {
    m_gathered += bytes;
    if (m_gathered.size() >= piece) write_out();
  }
  void write_out() {
    m_write(m_gathered);
    m_gathered.clear();
  }
  void begin(uint32_t version) {
    m_count = 0;
    write(encode_record(event::Stream{.at = now_ms(), .version = version}));
  }
  uint64_t end() {
    write(encode_record(event::End{.at = now_ms(), .jobs = m_count}));
    write_out();
    return m_count;
  }

  void look_up(std::vector<Found>& found) {
    m_ledger.look([&](Fold& fold) {
      for (auto& f : found) {
        f.job = fold.get(f.add.id);
        f.parents.clear();
        if (f.job && f.job->after > 0) f.parents = fold.unmet(f.add.id, SIZE_MAX);
        // A job that has expired has left its key to other jobs.
        if (f.job && f.job->expire.count() && fold.keyed(f.job->function, f.job->key, now_ms()) != f.add.id)
          f.add.asked.key.clear();
      }
    });
  }

  bool is_wanted(const Found& f) const {
    return f.job && f.job->state != State::finished && !f.job->unborn && f.job->location == f.lsn &&
           (m_selection.function.empty() || f.job->function == m_selection.function) &&
           (m_selection.states.empty() || m_selection.states.contains(state_name(*f.job)));
  }

  void put(Found& f) {
    const Job& job = *f.job;
    if (job.edges < job.after)
      return m_left_out("cannot write " + f.add.id + ": its client has not named all jobs that it is after");
    std::string reason;
    std::optional<Workload> workload;
    try {
      workload = m_ledger.workload(f.add.id, job, reason, m_workloads);
    } catch (const Error& e) {  // the disk cannot read this workload
      reason = e.what();
    }
    if (!workload) {
      std::optional<Job> now;  // the job may have ended in the meantime
      m_ledger.look([&](Fold& fold) { now = fold.get(f.add.id); });
      if (now && now->state != State::finished) m_left_out("cannot read the workload of " + f.add.id + ": " + reason);
      return;
    }
    NewJob made;
    made.add = f.add;
    made.add.part = {};
    made.add.descent = {};
    made.add.parents.clear(), made.add.met.clear();
    made.add.spooled = false;  // the importing store queues it
    made.parents = std::move(f.parents);
    made.add.asked.after = static_cast<uint32_t>(made.parents.size());
    write(encode_record_head(made.add, job.size, job.sum));
    write_workload(*workload, job.size, [this](std::string_view bytes) { write(bytes); });
    for (const auto& record : made.parent_records()) write(record);
    if (job.term || job.version) write(encode_record(state_of(f.add.id, job)));
    ++m_count;
  }

  Ledger& m_ledger;
  const Selection& m_selection;
  const std::function<void(std::string_view)>& m_write;
  const std::function<void(const std::string& what)>& m_left_out;
  EventReader m_workloads;
  std::string m_gathered;
  uint64_t m_count = 0;
  std::vector<Lsn> m_with_parents;  // the add records of jobs that have parents
};

}  // namespace

uint64_t write_stream(Ledger& ledger, const Selection& selection, const std::function<void(std::string_view)>& write,
                      const std::function<void(const std::string& what)>& left_out) {
  Writer writer(ledger, selection, write, left_out);
  const uint64_t written = writer.write_free();
  return written + writer.write_rest();
}

// Appends `size` bytes of the stream to `bytes`. Returns false if `bytes` was empty and the stream ends here.
bool StreamReader::read(std::string& bytes, uint64_t size) {
  for (uint64_t left = size; left > 0;) {
    size_t old = bytes.size();
    bytes.resize(old + std::min(left, piece));
    ssize_t n = ::read(m_fd, bytes.data() + old, bytes.size() - old);
    int saved = errno;
    bytes.resize(old + static_cast<size_t>(std::max<ssize_t>(n, 0)));
    if (n < 0 && saved == EINTR) continue;
    if (n < 0) {
      errno = saved;
      throw_errno(Exit::no_input, "read standard input");
    }
    if (n == 0) {
      if (bytes.empty() && left == size) return false;
      throw Error(Exit::bad_data, "the stream ends in the middle of a record");
    }
    left -= static_cast<uint64_t>(n);
  }
  return true;
}

// Skips `size` bytes. Reads them, because the input may be a pipe.
void StreamReader::pass_over(uint64_t size) {
  for (uint64_t left = size; left > 0; left -= std::min(left, piece)) {
    std::string thrown_away;
    if (!read(thrown_away, std::min(left, piece)))
      throw Error(Exit::bad_data, "the stream ends in the middle of a record");
  }
}

// If the head of a record is undamaged, it is known where the next record begins. So an error in one record does not
// stop the reader.
std::optional<StreamReader::Whole> StreamReader::next_record() {
  for (;;) {
    std::string head, data;
    if (!read(head, record_header_size)) return std::nullopt;
    auto bad = [&] { return Error(Exit::bad_data, "the stream is damaged at byte " + std::to_string(m_position)); };
    auto sizes = peek_record(head);
    if (!sizes || (sizes->head_size > record_header_size && !read(head, sizes->head_size - record_header_size)))
      throw bad();
    auto parsed = parse_record(head);
    if (!parsed && (!m_inside || !is_whole_head(head))) throw bad();
    std::string problem;
    if (!parsed) problem = "the record at byte " + std::to_string(m_position) + ": it is no record that this gq knows";
    else if (parsed->data_size > m_max_workload) problem = id_of(parsed->event) + ": it is larger than --max-workload";
    if (!problem.empty()) {
      pass_over(sizes->data_size);
    } else {
      if (parsed->data_size > 0 && !read(data, parsed->data_size)) throw bad();
      if (sum64(data) != parsed->data_sum && !m_inside) throw bad();
      if (sum64(data) != parsed->data_sum) problem = id_of(parsed->event) + ": the checksum of its workload is wrong";
    }
    m_position += sizes->head_size + sizes->data_size;
    if (!problem.empty()) {
      ++(parsed && is_any_of<event::Add>(parsed->event) ? m_jobs : m_unknown);
      m_skipped(problem);
      continue;
    }
    return Whole{std::move(head), std::move(*parsed), std::move(data)};
  }
}

// Reads the record that begins a stream. Returns false if the input ends instead.
bool StreamReader::begin() {
  std::optional<Whole> first;
  try {
    first = next_record();
  } catch (const Error& e) {
    if (e.code() != Exit::bad_data || m_begun) throw;
  }
  if (!first && m_begun) return false;
  auto* stream = first ? std::get_if<event::Stream>(&first->record.event) : nullptr;
  if (!stream)
    throw Error(Exit::bad_data, m_begun ? "the stream goes on behind its end, before byte " + std::to_string(m_position)
                                        : "the input is not a stream of gq-snapshot export");
  if (stream->version > parents_version)
    throw Error(Exit::config, "the stream is in format " + std::to_string(stream->version) +
                                  ", and this gq knows formats up to " + std::to_string(parents_version));
  m_begun = m_inside = true;
  m_jobs = m_unknown = 0;
  return true;
}

std::optional<StreamReader::Item> StreamReader::next() {
  if (!m_begun) begin();
  for (;;) {
    auto record = next_record();
    if (!record) throw Error(Exit::bad_data, "the stream is cut short: it has no end");
    Event& event = record->record.event;
    if (auto* end = std::get_if<event::End>(&event)) {
      m_inside = false;
      if (end->jobs < m_jobs || end->jobs > m_jobs + m_unknown)
        throw Error(Exit::bad_data,
                    "the stream has " + std::to_string(m_jobs) + " jobs, and should have " + std::to_string(end->jobs));
      if (!begin()) return std::nullopt;  // another stream may follow
      continue;
    }
    if (is_any_of<event::Stream>(event))
      throw Error(Exit::bad_data, "the stream is cut short: another begins before byte " + std::to_string(m_position));
    auto* state = std::get_if<event::State>(&event);
    if (state && std::max(state->term, state->version) <= most_imported) return std::move(*state);
    if (state) {
      m_skipped("the record before byte " + std::to_string(m_position) + ": " + state->id +
                " cannot have changed so often");
      continue;
    }
    auto* add = std::get_if<event::Add>(&event);
    if (add) ++m_jobs;
    if (add && add->part.source.empty() && add->descent.parent.empty() && !add->spooled) {
      NewJob job;
      job.add = std::move(*add);
      job.head = std::move(record->head);
      job.take_data(std::make_shared<const std::string>(std::move(record->data)));
      while (job.parents.size() < job.add.asked.after) {
        record = next_record();
        auto* after = record ? std::get_if<event::After>(&record->record.event) : nullptr;
        if (!after || !job.take_parents(*after))
          throw Error(Exit::bad_data, "the stream is damaged before byte " + std::to_string(m_position) +
                                          ": it does not name all jobs that " + job.add.id + " is after");
      }
      return job;
    }
    m_skipped("the record before byte " + std::to_string(m_position) + ": it is of another kind");
  }
}

}  // namespace gq

// gq-fuzz passes bytes from libFuzzer to a reader of untrusted bytes: GQ_FUZZ=TARGET gq-fuzz [libFuzzer's options]
// CORPUS. Without GQ_FUZZ, it lists the targets. A reader must not crash, hang, or give two different results for the
// same bytes.
#include <fcntl.h>
#include <libgearman/gearman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>

#include "gq/base/bytes.hpp"
#include "gq/base/error.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/gearman/gearman.hpp"
#include "gq/gearman/packets.hpp"
#include "gq/journal/journal.hpp"
#include "gq/journal/local_disk.hpp"
#include "gq/replication/pull_wire.hpp"
#include "gq/replication/wire.hpp"
#include "gq/state/event_reader.hpp"
#include "gq/work/outcome.hpp"

namespace {

using namespace gq;

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                  \
    }                                                                           \
  } while (false)

// Returns a record with the given bytes as its meta data, and with correct checksums, which the fuzzer could not guess.
std::string record_around(std::string_view meta, std::string_view data) {
  std::string head = "GQR1";
  put_le<uint32_t>(head, static_cast<uint32_t>(meta.size()));
  put_le<uint64_t>(head, data.size());
  put_le<uint64_t>(head, 0);
  put_le<uint64_t>(head, sum64(data));
  head += meta;
  std::string sum;
  put_le<uint64_t>(sum, sum64(head));
  head.replace(16, 8, sum);
  return head.append(data);
}

// Splits the input in two. The first byte is the size of the first part.
std::pair<std::string_view, std::string_view> halves(std::string_view in) {
  if (in.empty()) return {};
  size_t at = std::min<size_t>(static_cast<unsigned char>(in[0]), in.size() - 1);
  return {in.substr(1, at), in.substr(1 + at)};
}

void record(std::string_view in) {
  peek_record(in);
  parse_record(in);
  auto first = parse_record(record_around(in, ""));
  if (!first) return;
  // A record that was read is written and read again without a change.
  const std::string again = encode_record(first->event);
  auto second = parse_record(again);
  CHECK(second && encode_record(second->event) == again);
  // With the fields that a node adds to a job, a record is never too long.
  const std::string node = "rep_" + std::string(60, 'n');
  if (auto* add = std::get_if<event::Add>(&first->event)) {
    add->node = node;
    add->store = add->id;
  } else if (auto* state = std::get_if<event::State>(&first->event)) {
    state->node = state->from = node;
    state->store = state->from_store = state->id;
  } else {
    return;
  }
  CHECK(encode_record(first->event).size() < record_header_size + max_submitted_meta);
}

void group(std::string_view in) {
  std::string reason;
  parse_group(in, "f", reason);
  auto [meta, data] = halves(in);
  std::string one = record_around(meta, data);
  for (const auto& payload : {one, one + one, one + std::string(in)}) {
    reason.clear();
    auto jobs = parse_group(payload, "f", reason);
    CHECK(jobs || !reason.empty());
    if (!jobs) continue;
    for (auto& job : *jobs) {
      CHECK(job.add.asked.function == "f" && parse_ulid(job.add.id));
      const Millis now{1'700'000'000'000};
      if (submit(job, now)) continue;
      const event::Add& add = job.add;
      CHECK(job.head.size() <= record_header_size + max_submitted_meta && parse_record(job.head));
      CHECK(add.at <= now && add.asked.due <= last_time && add.asked.window <= longest_window &&
            add.asked.max_attempts <= most_attempts);
      CHECK(add.node.empty() && !add.once && add.copies == 0);
    }
    answer_group(
        payload, [](std::string_view part) { return part.size() % 3 ? throw Error(Exit::bug, "no") : std::string(); },
        [](const std::string&) {});
  }
}

// Makes a segment whose frames contain pieces of the input. Some frames are broken.
void journal(std::string_view in) {
  static const std::string directory = [] {
    std::string path = "/dev/shm/gq-fuzz." + std::to_string(getpid());
    std::filesystem::create_directories(path);
    static std::string kept = path;
    atexit([] { std::filesystem::remove_all(kept); });
    return path;
  }();
  static LocalDisk disk(Directory(directory), "fuzz");
  static Journal journal(Directory(directory), "fuzz", disk);
  auto sum_at_end = [&](std::string bytes) {
    put_le<uint64_t>(bytes, sum64(bytes, journal.seed()));
    return bytes;
  };
  std::string header = "GQJSEG\r\n";
  put_le<uint32_t>(header, journal_version);
  put_le<uint32_t>(header, segment_header_size);
  put_le<uint64_t>(header, 0);
  put_le<uint64_t>(header, 0);
  std::string bytes = sum_at_end(header);
  while (!in.empty()) {
    auto [piece, rest] = halves(in);
    in = rest;
    if (!piece.empty() && piece[0] % 4 == 0) {
      bytes += piece;
      continue;
    }
    std::string inside = record_around(piece, "");
    std::string frame = "GQF1";
    put_le<uint32_t>(frame, static_cast<uint32_t>(inside.size()));
    put_le<uint64_t>(frame, bytes.size());
    bytes += sum_at_end(frame) + inside;
  }
  std::string path = directory + "/journal/" + segment_name(0);
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  CHECK(fd >= 0 && ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  ::close(fd);
  EventReader reader(journal, 0);
  try {
    for (Lsn before = 0;;) {
      auto item = reader.next(true);
      if (item == JournalReader::Item::end) break;
      CHECK(reader.position() > before);  // the reader always advances
      before = reader.position();
    }
    reader.unread();
    CHECK(reader.position() <= bytes.size());
  } catch (const Error&) {
  }
}

void replies(std::string_view in) {
  const std::string id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
  for (const auto& text :
       {std::string(in), "queued " + id + "\n" + std::string(in), "refused " + id + " " + std::string(in)}) {
    auto answers = parse_answers(text, {id});
    CHECK(!answers || answers->size() == 1);
  }
}

void servers(std::string_view in) {
  auto list = parse_servers(in);
  if (!list) return;
  CHECK(!list->empty());
  for (const auto& s : *list) {
    auto again = parse_servers(s.name());
    CHECK(again && again->size() == 1 && again->at(0).host == s.host && again->at(0).port == s.port);
  }
}

void durations(std::string_view in) {
  if (auto d = parse_duration(in)) CHECK(d->count() >= 0 && d->count() <= 100LL * 366 * 86400 * 1000);
}

void moments(std::string_view in) {
  if (auto t = parse_time(in)) CHECK(t->count() >= 0 && parse_time(format_time(*t)) == t);
  if (auto r = parse_rate(in)) CHECK(*r > 0);
  Outcomes outcomes;
  if (outcomes.replace(in)) CHECK(in.find('=') != std::string_view::npos);
}

void sizes(std::string_view in) {
  if (auto n = parse_count(in)) CHECK(std::all_of(in.begin(), in.end(), [](char c) { return c >= '0' && c <= '9'; }));
  parse_size(in);
}

void names(std::string_view in) {
  std::string line = printable(in);
  CHECK(line.size() <= 200 && is_utf8(line) && !has_control(line) && printable(line) == line);
  std::string json = json_printable("\"" + line + "\xc2\x9b" + std::string(in) + "\"");
  CHECK(is_utf8(json) && json.find("\\u009b") != std::string::npos && json_printable(json) == json);
  if (!function_name_problem(in)) CHECK(is_utf8(in) && !has_control(in));
  if (auto id = parse_ulid(in)) CHECK(parse_ulid(*id) == *id);
  if (!key_problem(in)) CHECK(!in.empty() && is_utf8(in) && !has_control(in));
}

void packets(std::string_view in) {
  PacketCheck whole, pieces;
  bool good = true, other = true;
  std::vector<AssignedJob> jobs, same;
  auto take = [](PacketCheck& check, std::vector<AssignedJob>& to) {
    if (auto job = check.take_job()) to.push_back(std::move(*job));
  };
  good = whole.feed(in.data(), in.size());
  take(whole, jobs);
  for (char c : in) {
    other = pieces.feed(&c, 1);
    take(pieces, same);
  }
  // A second job is an error only until the first one was taken.
  CHECK(in.empty() || good == other || (!good && !same.empty()));
  if (good) CHECK(jobs.size() == same.size());
  for (const auto& job : same) CHECK(job.handle.size() <= GEARMAN_JOB_HANDLE_SIZE && job.size <= UINT32_MAX);
  parse_client_count(in);
}

void transfers(std::string_view in) {
  static const Keys none;
  const std::string id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
  for (const auto& text :
       {std::string(in), "gq1 take rep_1:all rep_1 " + id + " rep_2 " + id + " 1 - -\n" + std::string(in)}) {
    std::string reason;
    auto t = parse_transfer(text, none, reason);
    CHECK(t ? is_node_name(t->node) && is_ulid(t->store) : !reason.empty());
  }
  for (const auto& text : {std::string(in), "gq1 rep_1 " + id + " " + id + " -\n" + std::string(in)})
    if (auto r = parse_reply(text, "", none)) CHECK(is_node_name(r->node) && is_ulid(r->session));
  for (const auto& text :
       {std::string(in), "gqp1 " + id + " -\n" + std::string(in), "gqp1 ends " + id + " - -\n" + std::string(in)}) {
    std::string reason;
    const auto question = parse_question(text, id, none, reason);
    CHECK(question || !reason.empty());
    if (auto wanted = parse_wanted(in))
      for (const auto& w : *wanted) CHECK(is_ulid(w.id));
    const auto body = parse_pull_answer(text, id, "", none, reason = "");
    CHECK(body || !reason.empty());
    if (auto says = body ? parse_ends(*body, {id}) : std::nullopt)
      CHECK(says->size() == 1 && (says->front().store.empty() || is_ulid(says->front().store)));
    if (auto pieces = body ? parse_pieces(*body, {{id, 0}}) : std::nullopt) CHECK(pieces->size() == 1);
  }
}

const std::map<std::string, void (*)(std::string_view)> targets = {
    {"record", record},   {"group", group},         {"journal", journal},    {"replies", replies},
    {"servers", servers}, {"durations", durations}, {"moments", moments},    {"sizes", sizes},
    {"names", names},     {"packets", packets},     {"transfers", transfers}};

void (*target)(std::string_view);

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* name = getenv("GQ_FUZZ");
  auto found = targets.find(name ? name : "");
  if (found == targets.end()) {
    for (const auto& t : targets) puts(t.first.c_str());
    exit(name ? 64 : 0);
  }
  target = found->second;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  target({reinterpret_cast<const char*>(data), size});
  return 0;
}

// gq-ledger is the command of the jobs in the torture tests. It is small, because it is started tens of thousands of
// times. The first line of a workload is a tag and the CRC-32 of the rest; gq-ledger checks the CRC-32. It writes its
// start and its end, and whether the job runs twice at the same time, to the file that $LEDGER names. With --stream it
// gets many jobs (gq-stream(7)). It exits 75 if a disk fails.
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

constexpr int FAILED = 75;

uint32_t crc32(std::string_view data) {
  uint32_t sum = ~0u;
  for (char c : data) {
    sum ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) sum = (sum >> 1) ^ (0xedb88320u & (0u - (sum & 1)));
  }
  return ~sum;
}

// Reads at most `most` bytes of standard input.
std::string read_some(size_t most) {
  std::string got;
  char buffer[65536];
  while (got.size() < most) {
    const ssize_t n = ::read(0, buffer, std::min(sizeof buffer, most - got.size()));
    if (n < 0) exit(FAILED);
    if (n == 0) break;
    got.append(buffer, static_cast<size_t>(n));
  }
  return got;
}

std::string environment(const char* name) {
  const char* value = getenv(name);
  return value ? value : "";
}

void log(const std::string& line) {
  const int fd = ::open(environment("LEDGER").c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ::write(fd, line.data(), line.size()) != static_cast<ssize_t>(line.size())) exit(FAILED);
  ::close(fd);
}

// Returns the tag of a workload; another word if the workload is not as it was sent.
std::string tag_of(std::string_view workload) {
  const std::string_view head = workload.substr(0, workload.find('\n'));
  const std::string_view body = head.size() < workload.size() ? workload.substr(head.size() + 1) : "";
  const size_t space = head.find(' ');
  if (space == head.npos || head.substr(space + 1) != std::to_string(crc32(body))) return "ALTERED";
  return std::string(head.substr(0, space));
}

void one() {
  const std::string id = environment("GQ_JOB_ID"), seconds = environment("COMMAND_SECONDS");
  const int lock =
      ::open((environment("LEDGER") + ".locks/" + id).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (lock < 0) exit(FAILED);
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) log("overlap " + id + "\n");
  const std::string tag = tag_of(read_some(SIZE_MAX));
  log("start " + id + " " + tag + "\n");
  const double pause = seconds.empty() ? 0 : strtod(seconds.c_str(), nullptr);
  timespec t{static_cast<time_t>(pause),
             static_cast<long>((pause - static_cast<double>(static_cast<time_t>(pause))) * 1e9)};
  while (::nanosleep(&t, &t) != 0) continue;
  log("end " + id + " " + tag + "\n");
}

void many() {
  for (;;) {
    std::string header;
    for (std::string c; (c = read_some(1)) != "\n"; header += c)
      if (c.empty()) return;
    const size_t length = strtoul(header.c_str(), nullptr, 10), from = header.find(' ') + 1;
    const std::string id = header.substr(from, header.find(' ', from) - from), workload = read_some(length);
    if (workload.size() < length) return;
    const std::string tag = tag_of(workload);
    log("start " + id + " " + tag + "\n");
    log("end " + id + " " + tag + "\n");
    if (::write(1, "0\n", 2) != 2) return;
  }
}

}  // namespace

int main(int argc, char** argv) { argc > 1 && !strcmp(argv[1], "--stream") ? many() : one(); }

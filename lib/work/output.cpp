#include "gq/work/output.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <memory>

#include "gq/base/error.hpp"
#include "gq/base/given.hpp"
#include "gq/base/log.hpp"
#include "gq/base/notify.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"

namespace gq {
namespace {

constexpr size_t tail_size = 300;
constexpr int most_reads = 16;  // in a row, so that a command that prints without end does not block others

constexpr uint64_t least_room = 4096;

// Returns false and sets errno if not all of the data could be written.
bool write_quietly(int fd, std::string_view data) {
  while (!data.empty()) {
    ssize_t n = ::write(fd, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

// Creates a pipe that this process reads without blocking.
void make_pipe_from(Fd& reader, Fd& writer) {
  Pipe pipe = make_pipe();
  reader = std::move(pipe.reader);
  writer = std::move(pipe.writer);
  ::fcntl(reader.get(), F_SETFL, O_NONBLOCK);
}

// Removes lines from the beginning until the text fits.
void cut_lines(std::string& text) {
  while (text.size() > tail_size) text.erase(0, text.find('\n') + 1);
}

// Opens the output directory and refuses one that other users could write to: they could put files there, or remove the
// output of commands. Returns an empty Fd and sets errno if it cannot be opened.
Fd open_outputs(const std::string& path) {
  check_link(path);
  Fd fd = try_open(path, O_RDONLY | O_DIRECTORY);
  if (!fd) return fd;
  check_trusted(fd.get(), path, S_IWGRP | S_IWOTH, "chmod go-w it");
  check_reached(fd.get(), path);
  return fd;
}

Fd make_file(const Fd& directory, const std::string& name) {
  return Fd(::openat(directory.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
}

// Whether a file is locked, as the files of living owners are. If a user names the owners directory of a store as the
// output directory, the names of these files look like those of outputs.
bool is_locked(int directory, const char* name) {
  Fd fd(::openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  return !fd || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0;
}

}  // namespace

Printed standard_output() {
  int flags = ::fcntl(STDOUT_FILENO, F_GETFL);
  if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) return Printed::nowhere;
  pollfd fd{STDOUT_FILENO, 0, 0};
  if (::poll(&fd, 1, 0) > 0 && (fd.revents & (POLLERR | POLLHUP | POLLNVAL))) return Printed::nowhere;
  struct stat st;
  struct statvfs fs;
  if (::fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode) && ::fstatvfs(STDOUT_FILENO, &fs) == 0 &&
      (::geteuid() == 0 ? fs.f_bfree : fs.f_bavail) * fs.f_frsize < least_room)
    return Printed::no_room;
  return Printed::arrives;
}

StandardOutput::StandardOutput() : m_nowhere(open_file("/dev/null", O_WRONLY)) {}

Printed StandardOutput::look() {
  const Printed now = standard_output();
  auto tell = [&](Printed which, const char* what, const std::string& wrong, const std::string& right) {
    std::string text = std::string("cannot write standard output: ") + what;
    if (now == which ? begin_trouble(what, text) : end_trouble(what))
      log(Level::warning, now == which ? text + wrong : right);
  };
  tell(Printed::nowhere, "its reader is gone", "; the output of commands is lost", "standard output is read again");
  tell(Printed::no_room, "its disk is full", "; attempts that fail are not counted",
       "there is room for standard output again");
  m_lost = m_lost || now == Printed::nowhere;
  return now;
}

void StandardOutput::pass(std::string_view data) {
  m_pending += data;
  go_on();
}

void StandardOutput::go_on() {
  struct stat st;
  const bool is_file = ::fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode);
  while (is_blocked()) {
    pollfd fd{STDOUT_FILENO, POLLOUT, 0};
    if (!is_file && ::poll(&fd, 1, 0) <= 0) return;
    // A pipe that can be written takes PIPE_BUF bytes without blocking.
    const size_t left = m_pending.size() - m_written;
    const ssize_t n =
        ::write(STDOUT_FILENO, m_pending.data() + m_written, is_file ? left : std::min<size_t>(left, PIPE_BUF));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      look();
      m_lost = true;
      break;
    }
    m_written += static_cast<size_t>(n);
  }
  m_pending.clear();
  m_written = 0;
}

void prepare_outputs(const OutputOptions& options) {
  Pipe out = make_pipe(), error = make_pipe();
  if (options.directory.empty()) return;
  if (!file_exists(options.directory)) make_directory(options.directory);
  const std::string name = "tmp." + new_ulid();
  Fd directory = open_outputs(options.directory);
  if (!directory || !make_file(directory, name))
    throw_errno(Exit::storage, "make files in " + printable(options.directory));
  ::unlinkat(directory.get(), name.c_str(), 0);
}

Output::Output(const OutputOptions& options, const std::string& name, std::unique_ptr<Capture> capture,
               StandardOutput* passes_to, const std::string& tag)
    : m_directory(options.directory), m_cap(options.cap), m_capture(std::move(capture)) {
  make_pipe_from(m_error, m_error_end);
  if (options.tags) m_out_tag = m_error_tag = LineTag(tag);
  if (options.directory.empty() && !m_capture && !options.tags) return;
  make_pipe_from(m_out, m_out_end);
  if (options.directory.empty()) {
    m_passes_to = passes_to;
    return;
  }
  Fd directory = open_outputs(options.directory);
  if (!directory && errno == ENOENT) {
    if (make_directory(options.directory))
      log(Level::warning, "the output directory " + printable(options.directory) + " was gone; it is made again");
    directory = open_outputs(options.directory);
  }
  for (int n = 1; !m_file; ++n) {
    m_name = name + (n == 1 ? "" : "." + std::to_string(n));
    if (directory) m_file = make_file(directory, m_name);
    if (!m_file && (!directory || errno != EEXIST)) throw_errno(Exit::storage, "make the output file " + path());
  }
}

void Output::close_ends() {
  m_out_end.reset();
  m_error_end.reset();
}

void Output::keep(std::string_view data, bool is_error) {
  if (!is_error && m_capture) m_capture->add(data);
  if (!m_file) {
    pass((is_error ? m_error_tag : m_out_tag).add(data), is_error);
    if (!is_error) m_bytes += data.size();
    return;
  }
  if (m_bytes < m_cap) {
    if (write_quietly(m_file.get(), data.substr(0, m_cap - m_bytes))) {
      if (end_trouble("output file")) log(Level::warning, "the output of commands is written to files again");
    } else {
      std::string text = "cannot write " + printable(path()) + ": " + errno_text(errno);
      if (begin_trouble("output file", text)) log(Level::warning, text + "; the output of commands is lost");
    }
  }
  m_bytes += data.size();
}

void Output::pass(const std::string& data, bool is_error) {
  if (is_error) write_quietly(STDERR_FILENO, data);
  else if (m_passes_to) m_passes_to->pass(data);
}

void Output::note(std::string_view data) {
  for (size_t end; end = data.find('\n'), !data.empty(); data.remove_prefix(end + 1)) {
    m_line += data.substr(0, std::min(end, tail_size - m_line.size()));
    if (end == std::string_view::npos) return;
    if (!m_line.empty()) m_tail += (m_tail.empty() ? "" : "\n") + m_line;
    m_line.clear();
    cut_lines(m_tail);
  }
}

bool Output::pump(Fd& from, bool is_error) {
  char buffer[65536];
  for (int reads = 0; from && reads < most_reads; ++reads) {
    if (!is_error && is_blocked()) return true;
    ssize_t n = ::read(from.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return true;
    if (n <= 0) {
      if (n < 0 && !is_error && m_capture) m_capture->fail("it cannot be read: " + errno_text(errno));
      if (!m_file) pass((is_error ? m_error_tag : m_out_tag).end(), is_error);
      from.reset();
      return false;
    }
    std::string_view data(buffer, static_cast<size_t>(n));
    keep(data, is_error);
    if (is_error) note(data);
  }
  return static_cast<bool>(from);
}

bool Output::pump() {
  bool more = pump(m_out, false);
  return pump(m_error, true) || more;
}

std::string Output::tail() const {
  std::string text = m_tail;
  if (!m_line.empty()) text += (text.empty() ? "" : "\n") + m_line;
  cut_lines(text);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return printable(text, tail_size);
}

void Output::discard() {
  if (!m_file) return;
  try {
    Fd directory = open_outputs(m_directory);
    struct stat a, b;
    if (directory && ::fstat(m_file.get(), &a) == 0 &&
        ::fstatat(directory.get(), m_name.c_str(), &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino)
      ::unlinkat(directory.get(), m_name.c_str(), 0);
  } catch (const Error&) {  // the path now leads to another user's directory
  }
}

void sweep_outputs(const OutputOptions& options) {
  if (options.directory.empty()) return;
  Fd directory;
  try {
    directory = open_outputs(options.directory);
  } catch (const Error&) {  // the start of the next command will report this
  }
  std::unique_ptr<DIR, int (*)(DIR*)> dir(directory ? fdopendir(directory.get()) : nullptr, closedir);
  if (!dir) return;
  directory.release();
  time_t oldest = std::chrono::duration_cast<std::chrono::seconds>(now_ms() - options.keep).count();
  while (const dirent* entry = readdir(dir.get())) {
    std::string_view name = entry->d_name;
    // Leave other files, such as ID.gz, which commands may have put there.
    if (name.find_first_not_of("0123456789.", std::min(name.size(), ulid_size)) != std::string_view::npos) continue;
    struct stat st;
    if (name.size() > ulid_size + 1 && name[ulid_size] == '.' && is_ulid(name.substr(0, ulid_size)) &&
        ::fstatat(::dirfd(dir.get()), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
        st.st_uid == ::geteuid() && st.st_mtime < oldest && !is_locked(::dirfd(dir.get()), entry->d_name))
      ::unlinkat(::dirfd(dir.get()), entry->d_name, 0);
  }
}

}  // namespace gq

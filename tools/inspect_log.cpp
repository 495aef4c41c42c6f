#include "inspect_log.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <set>
#include <thread>
#include <tuple>

#include "frame.hpp"
#include "gq/base/directory.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/store/owners.hpp"
#include "inspect_jobs.hpp"
#include "results.hpp"

namespace gq {
namespace {

constexpr Millis poll_interval{200};

// The file of an attempt: ID.ATTEMPT, or ID.ATTEMPT.N if a file of that name was there before.
struct AttemptFile {
  uint64_t attempt = 0, number = 0;
  std::string path;
  bool operator<(const AttemptFile& other) const {
    return std::tie(attempt, number, path) < std::tie(other.attempt, other.number, other.path);
  }
};

std::set<AttemptFile> files_of(const std::set<std::string>& directories, const std::string& id) {
  std::set<AttemptFile> files;
  for (const auto& directory : directories) {
    std::error_code error;
    for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
         entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      if (!name.starts_with(id + ".")) continue;
      const auto parts = split(std::string_view(name).substr(id.size() + 1), '.');
      const auto attempt = parse_count(parts[0]), number = parts.size() == 2 ? parse_count(parts[1]) : uint64_t{1};
      if (attempt && number && parts.size() <= 2) files.insert({*attempt, *number, entry->path().string()});
    }
    if (error) throw Error(Exit::no_input, "cannot read the directory " + printable(directory), error.value());
  }
  return files;
}

// Prints what a file has after `offset`, and returns its new end.
uint64_t print_on(const std::string& path, uint64_t offset) {
  Fd fd = try_open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  struct stat st;
  if (!fd || ::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode)) return offset;
  char buffer[65536];
  for (ssize_t n; (n = ::pread(fd.get(), buffer, sizeof buffer, static_cast<off_t>(offset))) > 0;
       offset += static_cast<uint64_t>(n))
    print_workload(std::string_view(buffer, static_cast<size_t>(n)));
  return offset;
}

}  // namespace

Exit print_log(const LogOptions& o, Queue& store) {
  std::string id = o.id;
  if (const auto found = find_id(store, o.id)) id = *found;
  else if (const auto whole = parse_ulid(o.id)) id = *whole;
  else {
    log(Level::error, "there is no job " + printable(o.id) + " in this store");
    return Exit::no;
  }
  std::map<std::string, uint64_t> printed;  // by path, up to where
  for (;;) {
    const auto begun = std::chrono::steady_clock::now();
    std::set<std::string> directories;
    if (!o.directory.empty()) directories.insert(o.directory);
    else
      for (const auto& [owner, info] : processes_here(store.owners_directory()))
        if (!info.output.empty()) directories.insert(info.output);
    if (directories.empty() && printed.empty() && !o.follows)
      throw Error(Exit::usage, "cannot tell where the outputs are: no living worker writes files; say --output DIR");
    // The state is read first: when the job has ended, its files are complete.
    std::optional<Job> job;
    store.look([&](Fold& fold) { job = fold.get(id); });
    for (const auto& file : files_of(directories, id)) {
      const auto [at, is_new] = printed.try_emplace(file.path, 0);
      if (is_new && ::isatty(STDOUT_FILENO))
        print("==> attempt " + std::to_string(file.attempt) + (file.number > 1 ? " again" : "") + "\n");
      at->second = print_on(file.path, at->second);
    }
    if (!o.follows || !job || has_ended(*job) || job->state == State::dead) break;
    // A directory with very many files is read less often.
    std::this_thread::sleep_for(
        std::max<std::chrono::steady_clock::duration>(poll_interval, 4 * (std::chrono::steady_clock::now() - begun)));
  }
  if (!printed.empty()) return Exit::ok;
  log(Level::error, "there is no file of an attempt of " + id);
  return Exit::no;
}

}  // namespace gq

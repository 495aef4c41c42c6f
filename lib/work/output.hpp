// The output of commands. Standard error goes through a pipe to the worker's own standard error, so that its last lines
// can be reported as the reason of a failure. With an output directory, both streams go to a file there, one for each
// attempt.
//
// Standard output is the worker's own, and it may break: its reader exits, or its disk is full. This does not count as
// a failure of the jobs. If an output is to be kept, it comes through a pipe, and this process passes it on.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/base/fd.hpp"
#include "gq/work/capture.hpp"
#include "gq/work/line_tag.hpp"

namespace gq {

struct OutputOptions {
  std::string directory;         // empty: both streams go to those of the worker
  uint64_t cap = 100 << 20;      // the most bytes that are kept of one attempt
  Millis keep{7 * 86400'000LL};  // files of attempts that ended longer ago are removed
  bool tags = false;             // each line that goes to the streams of the worker begins with function and ID
};

// Whether bytes printed on this process's standard output can arrive.
enum class Printed {
  arrives,
  nowhere,  // its reader has ended, or it cannot be written to at all
  no_room,  // the disk of its file is full
};
Printed standard_output();

// Watches standard output: logs when the output of commands no longer arrives, and when it arrives again. Also passes
// on output that this process reads from commands, without blocking.
class StandardOutput {
 public:
  StandardOutput();  // throws Error if /dev/null cannot be opened
  Printed look();
  // Whether commands printed output that was lost.
  bool lost() const { return m_lost; }
  // The descriptor that commands get while standard output is broken.
  int nowhere() const { return m_nowhere.get(); }

  // Writes the data, as soon as they can be written. Call it only while is_blocked() is false. So the data of one call
  // are not mixed with those of another.
  void pass(std::string_view data);
  // Whether data wait until standard output can be written: poll it, then call go_on().
  bool is_blocked() const { return m_written < m_pending.size(); }
  void go_on();

 private:
  Fd m_nowhere;
  bool m_lost = false;
  std::string m_pending;
  size_t m_written = 0;  // of m_pending
};

// Creates the directory if it is missing. Throws Error if an Output could not be created now.
void prepare_outputs(const OutputOptions& options);

// The output of one command.
class Output {
 public:
  // Creates a file called `name`; if that file exists, appends ".2", ".3" and so on to the name, so that no file is
  // ever overwritten. If the directory is gone, creates it again. With a `capture`, standard output goes there, too;
  // without an output directory it is then passed on to `standard_output`, which must outlive this object. Throws Error
  // if a pipe or file cannot be created.
  // `tag` is put before each line if the options ask for tags.
  Output(const OutputOptions& options, const std::string& name, std::unique_ptr<Capture> capture = nullptr,
         StandardOutput* standard_output = nullptr, const std::string& tag = {});
  Output(Output&&) = default;
  Output& operator=(Output&&) = default;

  // The descriptors for the command; -1: the worker's own. Call close_ends() once the command has been started.
  int out_end() const { return m_out_end ? m_out_end.get() : -1; }
  int error_end() const { return m_error_end.get(); }
  void close_ends();

  // The descriptors to poll for; -1 if nothing more can come, or if it has to wait for standard output.
  int out() const { return m_out && !is_blocked() ? m_out.get() : -1; }
  int error() const { return m_error ? m_error.get() : -1; }
  // Passes on the output that can be read without waiting. Returns false when nothing more can come, because no process
  // holds the other ends.
  bool pump();
  // Whether output has to wait until standard output can be written.
  bool is_blocked() const { return m_passes_to && m_passes_to->is_blocked(); }
  // Whether standard output gets what the command prints through this process.
  bool is_passed_on() const { return m_passes_to != nullptr; }
  // From now on nothing is passed on to standard output.
  void stop_passing() { m_passes_to = nullptr; }
  Capture* capture() { return m_capture.get(); }
  std::unique_ptr<Capture> take_capture() { return std::move(m_capture); }

  uint64_t bytes() const { return m_bytes; }
  // The last lines of standard error, for users; if the last line is long, its beginning.
  std::string tail() const;
  void discard();  // removes the file

 private:
  bool pump(Fd& from, bool is_error);
  void keep(std::string_view data, bool is_error);
  void pass(const std::string& data, bool is_error);
  void note(std::string_view data);

  std::string path() const { return m_directory + "/" + m_name; }

  std::string m_directory, m_name;
  Fd m_file;
  Fd m_out, m_out_end, m_error, m_error_end;
  uint64_t m_cap = 0, m_bytes = 0;
  std::unique_ptr<Capture> m_capture;
  StandardOutput* m_passes_to = nullptr;
  LineTag m_out_tag, m_error_tag;
  std::string m_tail, m_line;  // the last complete lines, and the beginning of the incomplete line
};

// Removes files of attempts (<ID>.<attempt>) that were last written longer ago than OutputOptions::keep.
void sweep_outputs(const OutputOptions& options);

}  // namespace gq

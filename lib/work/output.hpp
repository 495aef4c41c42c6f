// What commands print. Standard error goes through a pipe to where the worker's own goes, so that its last lines can be
// told as the reason of a failure; with an output directory both streams go to a file there, one for each attempt.
//
// Standard output is the worker's own, and may break: its reader goes away, its disk is full. That is no fault of the
// jobs.
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/base/fd.hpp"

namespace gq {

struct OutputOptions {
  std::string directory;         // empty: standard output is the worker's, standard error goes there too
  uint64_t cap = 100 << 20;      // bytes kept of one attempt
  Millis keep{7 * 86400'000LL};  // files of attempts that ended longer ago are swept
};

// Whether what is printed on this process's standard output can arrive.
enum class Printed {
  arrives,
  nowhere,  // its reader has gone, or it cannot be written to at all
  no_room,  // the disk of its file is full
};
Printed standard_output();

// The same, watched over: it is said when what commands print no longer arrives, and when it does again.
class StandardOutput {
 public:
  StandardOutput();  // throws Error where there is no /dev/null
  Printed look();
  // Whether commands printed what went nowhere.
  bool lost() const { return m_lost; }
  // What they are given in its place then.
  int nowhere() const { return m_nowhere.get(); }

 private:
  Fd m_nowhere;
  bool m_lost = false;
};

// Throws Error where an Output could not be made now; the directory is made where it is missing.
void prepare_outputs(const OutputOptions& options);

// What one command prints.
class Output {
 public:
  // Throws Error where a pipe or file cannot be made. The name of the file is `name`, or with ".2", ".3" behind it
  // where that is there already: none is ever overwritten. A directory that is gone is made again.
  Output(const OutputOptions& options, const std::string& name);
  Output(Output&&) = default;
  Output& operator=(Output&&) = default;

  // The ends for the command; -1: the worker's own. close_ends() once it has been started.
  int out_end() const { return m_out_end ? m_out_end.get() : -1; }
  int error_end() const { return m_error_end.get(); }
  void close_ends();

  // The descriptors to poll for; -1 where there is nothing more to come.
  int out() const { return m_out ? m_out.get() : -1; }
  int error() const { return m_error ? m_error.get() : -1; }
  // Passes on what is there without waiting; false when nothing more can come, for nobody has the other ends.
  bool pump();

  uint64_t bytes() const { return m_bytes; }
  // The last line or lines of standard error, for people; of one that is long, its beginning.
  std::string tail() const;
  void discard();  // removes the file

 private:
  bool pump(Fd& from, bool is_error);
  void keep(std::string_view data);
  void note(std::string_view data);

  std::string path() const { return m_directory + "/" + m_name; }

  std::string m_directory, m_name;
  Fd m_file;
  Fd m_out, m_out_end, m_error, m_error_end;
  uint64_t m_cap = 0, m_bytes = 0;
  std::string m_tail, m_line;  // the last whole lines, and the beginning of the one that is not whole yet
};

// Removes files of attempts (<ID>.<attempt>) that nothing was written to for that long.
void sweep_outputs(const OutputOptions& options);

}  // namespace gq

// Jobs that a user's own program has marked as done. The program sets the mark in the database transaction that does
// the work of the job (mirror.hpp).
#pragma once

#include <string>
#include <vector>

namespace gq {

class Ends {
 public:
  virtual ~Ends() = default;
  // Returns jobs that are marked as done, a limited number at a time. All functions throw Error(retry) if the database
  // does not answer.
  virtual std::vector<std::string> ends() = 0;
  virtual bool has_ended(const std::string& id) = 0;
  // Removes the marks of these jobs.
  virtual void forget_ends(const std::vector<std::string>& ids) = 0;
};

}  // namespace gq

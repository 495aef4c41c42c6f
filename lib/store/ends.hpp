// Jobs that a user's own program has marked as done, in the same transaction of its database that did their work
// (mirror.hpp).
#pragma once

#include <string>
#include <vector>

namespace gq {

class Ends {
 public:
  virtual ~Ends() = default;
  // Returns the first of the jobs that are marked as done. All functions here throw Error(retry) if the database does
  // not answer.
  virtual std::vector<std::string> ends() = 0;
  virtual bool has_ended(const std::string& id) = 0;
  // Removes the marks of these jobs.
  virtual void forget_ends(const std::vector<std::string>& ids) = 0;
};

}  // namespace gq

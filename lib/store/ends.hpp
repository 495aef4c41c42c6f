// What a user's own program says of jobs: that they are done, in the transaction of its database that did what they
// ask for (mirror.hpp).
#pragma once

#include <string>
#include <vector>

namespace gq {

class Ends {
 public:
  virtual ~Ends() = default;
  // The jobs that are done, the first of them. Like the others, throws Error(retry) where the database does not answer.
  virtual std::vector<std::string> ends() = 0;
  virtual bool has_ended(const std::string& id) = 0;
  // These need not be said again.
  virtual void forget_ends(const std::vector<std::string>& ids) = 0;
};

}  // namespace gq

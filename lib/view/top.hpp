// The model of `gq-inspect top`: turns samples of a store into rates, and into the lines of a screen. Pure: the program
// takes the samples, passes on the keys, and draws the lines.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "gq/base/columns.hpp"
#include "gq/view/overview.hpp"

namespace gq {

// What happened to the jobs of a function between two samples.
struct Flow {
  double in = 0, done = 0, failed = 0;
};

struct TopJob {
  std::string id, function;
  Millis since{0};
};

struct TopWorker {
  int64_t pid = 0;
  std::string host;
  std::string functions;       // with commas between them; empty: all
  std::vector<TopJob> runs{};  // the jobs that it runs
};

struct TopSample {
  Millis at{0};
  std::string store;
  Overview overview{};
  std::map<std::string, Flow> flows{};  // since the sample before
  std::vector<TopWorker> workers{};
  std::string note{};  // the last message of the program
};

struct TopLine {
  std::string text;
  Colour colour = Colour::none;
  bool is_title = false;
};

class TopModel {
 public:
  enum class Key { up, down, page_up, page_down, home, end, sort, filter, enter, escape, erase };

  void add(TopSample sample);
  void press(Key key);
  // A character that the user typed: a part of the filter while the user types one. Returns false if none is typed.
  bool type(const std::string& character);
  // Returns what to draw: at most `height` lines, none longer than `width`; none before the first sample.
  std::vector<TopLine> lines(size_t width, size_t height);

  // The rates of a function in a second, over the last seconds.
  Flow rates(const std::string& function) const;
  // How many jobs were done in each of the last periods, as characters that are higher the more there were.
  std::string sparkline(const std::string& function) const;

 private:
  struct Recent {
    std::deque<Flow> flows;             // of the last samples
    std::map<int64_t, double> periods;  // how many jobs were done, by the number of the period
  };
  std::vector<std::string> sorted() const;
  std::vector<TopLine> head(size_t width) const;
  std::vector<TopLine> functions(size_t width, size_t height);
  std::vector<TopLine> workers(size_t width) const;
  std::string keys() const;

  TopSample m_last;
  bool m_has_sample = false;
  std::deque<double> m_seconds;  // between the last samples
  std::map<std::string, Recent> m_recent;
  size_t m_sort = 0, m_scroll = 0, m_page = 1;
  bool m_is_typing = false;
  std::string m_filter;
};

}  // namespace gq

// Makes a record with every key that exists, although its type does not need them. No program of gq writes such a
// record, and each must be able to read it.
#pragma once

#include "gq/state/event.hpp"

template <typename E>
struct WithEveryKey {
  static constexpr std::string_view type = E::type;
  E said;
  std::string why = "x", text = "x";
  gq::Millis time{7};
  uint32_t number = 7;
  uint64_t position = 7;
  bool yes = true;
  std::vector<std::string> ids{said.id};

  static void fields(auto& self, auto visit) {
    std::vector<std::string_view> own;
    E::fields(self.said, [&](std::string_view key, auto& member, auto... usual) {
      own.push_back(key);
      visit(key, member, usual...);
    });
    auto other = [&](std::string_view key, auto& member) {
      if (std::find(own.begin(), own.end(), key) == own.end()) visit(key, member);
    };
    for (auto key : {"o", "key", "serial", "peers", "from", "fstore", "state"}) other(key, self.text);
    other("why", self.why);
    for (auto key : {"due", "window"}) other(key, self.time);
    for (auto key : {"n", "max", "copies", "term", "v", "failures", "crashes", "exit", "sig", "tries"})
      other(key, self.number);
    for (auto key : {"lsn", "since"}) other(key, self.position);
    for (auto key : {"given", "once", "enough", "keep", "dropped"}) other(key, self.yes);
    other("ids", self.ids);
  }
};

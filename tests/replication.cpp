// Unit tests of the decisions of a group's nodes: sequences of messages at given times.
#include "check.hpp"
#include "gq/base/ulid.hpp"
#include "gq/replication/ask.hpp"
#include "gq/replication/failure_detector.hpp"
#include "gq/replication/inquiry.hpp"
#include "gq/replication/membership.hpp"
#include "gq/replication/ownership.hpp"
#include "gq/replication/pull.hpp"
#include "gq/replication/pull_wire.hpp"
#include "gq/replication/replica.hpp"
#include "gq/replication/verdict.hpp"
#include "gq/replication/wire.hpp"
#include "gq/store/lease.hpp"

namespace {

using namespace gq;

// A node may change its identity a few times at once. If it changes its identity every second, only some changes are
// accepted.
void changes_of_a_store_are_rate_limited() {
  RateLimit turnover;
  auto at = [&](int seconds) { return turnover.allows(std::chrono::seconds(seconds)); };
  CHECK(at(0) && at(10) && at(10) && !at(11) && !at(179) && at(180) && !at(181));
  int believed = 0;
  for (int second = 200; second < 200 + 3600; ++second) believed += at(second);
  CHECK(believed >= 57 && believed <= 63);
}

void nodes_that_return_wait_for_the_others() {
  using For = Standby::For;
  const Millis s{1000}, takeover = 30 * s, alone = 600 * s, wall{1'700'000'000'000};
  auto wait = [&](const std::vector<Heard>& others, Millis silence) {
    return wait_of(others, silence, takeover, alone);
  };
  const Heard unasked{"rep_2", false, false, false, false, s}, silent{"rep_3", true, false, false, false, s};
  const Heard behind{"rep_2", true, true, false, false, s}, complete{"rep_2", true, true, true, false, s};
  // No node has been asked, or none answers: wait until --alone-after.
  CHECK(wait({}, s).what == For::nothing);
  CHECK(wait({unasked, silent}, s).alone && wait({unasked, silent}, 599 * s).what == For::answer &&
        wait({unasked, silent}, 600 * s).what == For::nothing);
  CHECK(wait_text(wait({unasked, silent}, s), wall) ==
        "until rep_2 or rep_3 can be asked, at the latest 2023-11-14T22:23:20.000Z");
  // One node answers: wait until it has sent everything, however long that takes.
  CHECK(wait({complete, silent}, s).what == For::nothing);
  CHECK(wait({behind, silent}, 9999 * s).what == For::news && wait({behind}, 0 * s).what == For::news);
  CHECK(wait_text(wait({behind}, s), wall).substr(0, 20) == "until rep_2 has told");
  CHECK(wait({complete, {"rep_3", false, false, false, false, s}}, s).what ==
        For::answer);  // rep_3 has not been asked yet
  // The node falls silent, and is gone.
  Heard dying = behind;
  dying.silence = 10 * s;
  CHECK(wait({dying}, 10 * s).what == For::answer && wait({dying}, 10 * s).left == 20 * s &&
        !wait({dying}, 10 * s).alone);
  CHECK(wait({dying, {"rep_3", true, true, false, false, s}}, s).what == For::news);
  dying.gone = true;
  CHECK(wait({dying}, 31 * s).alone &&
        wait({dying, {"rep_3", true, true, true, false, s}}, 31 * s).what == For::nothing);
  // A function that the answers do not name does not run on that node.
  const Millis t{std::chrono::hours(1)};
  LastRuns runs;
  runs.restart(t);
  runs.heard({{"f"}}, t + 20 * s);
  CHECK(!runs.lacks("g", t + 29 * s, takeover) && runs.lacks("g", t + 30 * s, takeover) &&
        !runs.lacks("f", t + 49 * s, takeover) && runs.lacks("f", t + 50 * s, takeover));
  runs.heard(std::nullopt, t + 60 * s);  // an older node, or a node that runs all functions
  CHECK(!runs.lacks("g", t + 89 * s, takeover) && !runs.lacks("f", t + 89 * s, takeover) &&
        runs.lacks("f", t + 90 * s, takeover));
  // Either clock can show that the node was stopped. A clock that is set back is not a gap.
  CHECK(!is_gap({s, wall}, {16 * s, wall + 15 * s}, 15 * s) && is_gap({s, wall}, {17 * s, wall}, 15 * s));
  CHECK(is_gap({s, wall}, {s, wall + 16 * s}, 15 * s) && !is_gap({s, wall}, {2 * s, wall - 3600 * s}, 15 * s));
  auto beat = parse_beat(encode_beat({{s, wall}, 15 * s, "until x"}) + "of a longer one\n");
  CHECK(beat && beat->at.boot == s && beat->at.wall == wall && beat->longest == 15 * s && beat->waits == "until x");
  CHECK(parse_beat("1 2 3 \n")->waits.empty() && !parse_beat("") && !parse_beat("1 2\n") && !parse_beat("x 2 3 \n") &&
        !parse_beat("1 2 3 "));
}

// A client's questions for ends: which store, about which jobs, and when.
struct Asking {
  using What = StoreSays::What;
  Pull::Time now{std::chrono::hours(1)};
  const Pull::Time begun = now;
  Pull pull;
  explicit Asking(std::vector<std::vector<std::string>> stores) : pull(jobs(std::move(stores)), now) {}

  static std::vector<Pull::Waiting> jobs(std::vector<std::vector<std::string>> stores) {
    std::vector<Pull::Waiting> all;
    for (auto& of : stores) all.push_back({new_ulid(), std::move(of)});
    return all;
  }
  // Waits until the next question is due. Returns the store, the number of jobs, and how long that took.
  Pull::Question next() {
    auto question = *pull.next();
    now = std::max(now, question.at);
    return question;
  }
  Pull::Question ask(What what, const std::string& store = {}) {
    const auto question = next();
    pull.answered(question, std::vector<StoreSays>(question.jobs.size(), {.what = what, .store = store}), now);
    return question;
  }
  Pull::Question be_silent() {
    const auto question = next();
    pull.silent(question, now);
    return question;
  }
};

void ends_are_asked_for_less_and_less_often() {
  using What = StoreSays::What;
  const std::string a = pull_name("a");
  Asking one({{a}});
  CHECK(is_ulid(a) && a != pull_name("b") && pull_function(a) == a + ".result.gq");
  std::vector<int64_t> pauses;
  for (auto before = one.now; pauses.size() < 10; before = one.now) {
    CHECK(one.ask(What::waits).store == a);
    pauses.push_back(std::chrono::duration_cast<Millis>(one.now - before).count());
  }
  CHECK(pauses.front() == 50 && pauses[1] == 75 && pauses[8] == 1000 && pauses[9] == 1000);
  CHECK(!one.pull.end(0));
  one.ask(What::end);
  CHECK(!one.pull.next() && one.pull.end(0)->what == What::end && one.pull.store(0) == a);
  // At most 1000 jobs are asked for, the first ones; the others follow at once when these have ended.
  Asking many(std::vector<std::vector<std::string>>(1500, {a}));
  CHECK(many.ask(What::waits).jobs.size() == 1000);
  auto question = many.next();
  std::vector<StoreSays> says(1000);
  for (auto& s : says) s.what = What::waits;
  says[7].what = What::end;
  many.pull.answered(question, says, many.now);
  question = many.next();
  CHECK(question.jobs.size() == 1000 && question.jobs[7] == 8 && question.jobs.back() == 1000);
  many.ask(What::end);
  const auto before = many.now;
  question = many.next();
  CHECK(question.jobs.size() == 499 && question.jobs.front() == 1001 && many.now == before);
  many.ask(What::end);
  CHECK(!many.pull.next());
}

void a_silent_store_is_followed_by_the_next_one() {
  using What = StoreSays::What;
  const std::string a = pull_name("a"), b = pull_name("b"), c = pull_name("c");
  // Another store that knows the job is asked, and names the owner; that is silent, and so is not asked for a while.
  Asking one({{a, b}});
  CHECK(one.be_silent().store == a && one.ask(What::waits, a).store == b);
  const auto silent = one.now;
  std::string next = one.ask(What::waits, a).store;
  CHECK(next == b);
  while (next == b) next = one.ask(What::waits, a).store;
  CHECK(next == a && one.now - silent > std::chrono::seconds(4) && one.now - silent < std::chrono::seconds(7));
  // After a takeover another store owns it, which the client did not know.
  one.ask(What::waits, c);
  CHECK(one.ask(What::waits).store == c && !one.pull.is_over(0));
  one.ask(What::there, a);
  CHECK(one.pull.is_over(0) && !one.pull.end(0) && one.ask(What::end).store == a && one.pull.store(0) == a);
  // One that is silent is asked again and again if there is no other one.
  Asking alone({{a}});
  for (int i = 0; i < 10; ++i) CHECK(alone.be_silent().store == a);
  CHECK(alone.now - alone.begun > std::chrono::seconds(5) && alone.now - alone.begun < std::chrono::seconds(10));
  CHECK(alone.ask(What::end).store == a);
  // A job is unknown when no store knows it: a silent one may.
  Asking lost({{a, b}});
  lost.ask(What::unknown);
  CHECK(lost.be_silent().store == b && lost.ask(What::unknown).store == a && !lost.pull.end(0));
  while (lost.next().store == a) lost.ask(What::unknown);
  lost.ask(What::unknown);
  CHECK(!lost.pull.next() && lost.pull.end(0)->what == What::unknown);
  // A store that names others without end is not followed without end.
  Asking led({{a}});
  for (int i = 0; i < 200; ++i) led.ask(What::waits, pull_name(std::to_string(i)));
  std::set<std::string> asked;
  for (int i = 0; i < 200; ++i) asked.insert(led.be_silent().store);
  CHECK(asked.size() <= most_stores);
}

void questions_of_clients_are_answered() {
  using What = StoreSays::What;
  const Self here{"rep_1", new_ulid()}, there{"rep_2", new_ulid()};
  const std::string a = new_ulid(), b = new_ulid(), store = pull_name(here.store);
  // What a store says of a job, and how it arrives.
  gq::Job job;
  job.state = State::finished;
  job.result = true, job.once = 1, job.exit = 0, job.node = here.node, job.store = here.store;
  job.output = Kept::whole, job.output_lsn = 7, job.output_size = 5, job.output_sum = UINT64_MAX;
  CHECK(say_of(std::nullopt, here).what == What::unknown && say_of(job, there).what == What::there &&
        say_of(job, there).store == store);
  gq::Job dead = job;
  dead.state = State::dead, dead.exit = 3, dead.why = "exit status 3\x1b", dead.output = Kept::too_large;
  gq::Job held = job;
  held.state = State::held;
  CHECK(say_of(held, there).what == What::waits && say_of(held, there).store == store &&
        say_of(held, here).store.empty());
  gq::Job dropped = job;
  dropped.dropped = 1;
  CHECK(say_of(dropped, there).what == What::end && say_of(dropped, there).result.status == 125);
  const std::vector<std::string> ids{a, b, new_ulid(), new_ulid(), new_ulid()};
  const std::string body = encode_ends(ids, {say_of(job, here), say_of(dead, here), say_of(held, there),
                                             say_of(job, there), say_of(std::nullopt, here)});
  const auto says = parse_ends(body, ids);
  CHECK(says && (*says)[0].what == What::end && (*says)[0].result.status == 0 && (*says)[0].result.has_output &&
        (*says)[0].size == 5 && (*says)[0].sum == UINT64_MAX && (*says)[0].exit == 0 && (*says)[0].state == "finished");
  CHECK((*says)[1].result.status == 3 && !(*says)[1].result.has_output && (*says)[1].state == "dead" &&
        (*says)[1].result.problem == "it is dead: exit status 3?");
  CHECK((*says)[2].what == What::waits && (*says)[2].store == store && (*says)[3].what == What::there &&
        (*says)[4].what == What::unknown);
  for (const std::string bad : {"", "end ID", "end ID 256 x - - - -", "end ID 0 x - - 99999999999999999999 1",
                                "waits ID x", "there ID", "unknown ID x", "end ID 0 x 3 - -"}) {
    std::string line = bad;
    if (const size_t at = line.find("ID"); at != std::string::npos) line.replace(at, 2, a);
    CHECK(!parse_ends(line, {a}));
  }
  CHECK(!parse_ends(body, {a, b}) && !parse_ends("unknown " + b, {a}));
  // The record of an end may come from elsewhere: what no command ends with does not make the answer unreadable.
  dead.exit = 300, dead.signal = 128;
  const auto odd = parse_ends(encode_ends({a}, {say_of(dead, here)}), {a});
  CHECK(odd && odd->front().result.status == 125 && odd->front().exit == no_exit && odd->front().signal == 0);
  // Outputs, also with bytes that look like the format.
  const std::vector<Wanted> wanted{{a, 0}, {b, 7}};
  CHECK(parse_wanted(encode_wanted(wanted)) == wanted && !parse_wanted("x 1") && !parse_wanted(a + " -1"));
  auto pieces = parse_pieces(encode_pieces(wanted, {{"\n\nnone", ""}, {"", "it is gone"}}), wanted);
  CHECK(pieces && (*pieces)[0].bytes == "\n\nnone" && (*pieces)[1].problem == "it is gone");
  pieces = parse_pieces(encode_pieces(wanted, {{"x", ""}}), wanted);
  CHECK(pieces && pieces->size() == 1);
  for (const std::string bad : {"\n", "part A 0 1\n\n", "part A 0 1\n\nxx", "part A 1 1\n\nx", "none B x\n\n", ""}) {
    std::string text = bad;
    if (const size_t at = text.find_first_of("AB"); at != std::string::npos)
      text.replace(at, 1, text[at] == 'A' ? a : b);
    CHECK(!parse_pieces(text, wanted));
  }
  // A question is for one store, and an answer for one question.
  const Keys none;
  std::string reason;
  const std::string text = encode_question("ends", store, "body", none);
  const auto question = parse_question(text, store, none, reason);
  CHECK(question && question->kind == "ends" && question->body == "body");
  CHECK(!parse_question(text, pull_name("x"), none, reason) && reason == "it is for another store");
  CHECK(parse_pull_answer(encode_pull_answer(store, question->line, "good", none), store, question->line, none,
                          reason = "") == "good");
  CHECK(!parse_pull_answer(encode_pull_answer(store, "", "bad it is\x1b x\n", none), store, "", none, reason) &&
        reason == "it refuses the question: it is? x");
  // The line that names the stores ends the answer to a submission.
  const std::string line = encode_answer(a, {Outcome::queued});
  auto answers = parse_answers(line + encode_stores({store, pull_name("b"), store}), {a});
  CHECK(answers && answers->front().stores == std::vector({store, pull_name("b")}));
  CHECK(!parse_answers(line + "results x\n", {a}) && !parse_answers(line + "results\n", {a}) &&
        !parse_answers(line + line, {a}) && encode_stores({}).empty());
  std::string long_line = "results";
  for (size_t i = 0; i <= most_stores; ++i) long_line += " " + pull_name(std::to_string(i));
  CHECK(!parse_answers(line + long_line + "\n", {a}));
}

// An answer must fit its question. A newer node may send more lines.
void questions_are_answered() {
  const std::string a = new_ulid(), b = new_ulid(), store = new_ulid();
  CHECK(parse_ask(encode_ask({a, b})) == std::vector({a, b}) && parse_ask("")->empty());
  CHECK(!parse_ask(a + "\nx\n") && !parse_ask("\n" + a) && !parse_ask(a + " " + b));

  AskReply said{.end = 77, .runner = true, .taking = true, .room = false, .relay = false};
  said.functions = {"f", "g"};
  said.sent = {{"rep_3", store, 5}};
  said.known = {true, false};
  said.yours = {a};
  said.others = {b};
  said.ended = {b};
  said.about = {{a, {"f", 12, 34}}};
  said.reads = {"expire", "more"};
  const std::string body = encode_ask_reply(said, {a, b});
  CHECK(body == "end 77\nrunner 1\nroom 0\nrelay 0\nfunctions f g\nreads expire more\ntaking 1\nsent rep_3 " + store +
                    " 5\nknown " + a + "\nunknown " + b + "\nyours " + a + "\nother " + b + "\nended " + b +
                    "\nabout " + a + " f 12 34\n");
  auto heard = parse_ask_reply("more of it\n" + body, {a, b});
  CHECK(heard && heard->end == 77 && heard->runner && heard->taking && !heard->room && heard->relay == false &&
        heard->functions == said.functions && heard->sent.size() == 1 && heard->sent[0].node == "rep_3" &&
        heard->sent[0].store == store && heard->sent[0].upto == 5 && heard->known == said.known &&
        heard->yours == said.yours && heard->others == said.others && heard->ended == said.ended &&
        heard->about.size() == 1 && heard->about[a].function == "f" && heard->about[a].size == 12 &&
        heard->about[a].sum == 34 && heard->reads == said.reads);
  auto least = parse_ask_reply("end 1\n", {});
  CHECK(least && !least->runner && !least->functions && !least->taking && least->room && !least->relay &&
        least->reads.empty());
  CHECK(parse_ask_reply("end 1\nfunctions\n", {})->functions->empty());
  std::string many = "end 1\nreads " + std::string(33, 'x');
  for (int i = 0; i < 1000; ++i) many += " f" + std::to_string(i);
  CHECK(parse_ask_reply(many + "\n", {})->reads.size() == 100 &&
        !parse_ask_reply(many + "\n", {})->reads.count(std::string(33, 'x')));

  CHECK(!parse_ask_reply(body, {b, a}) && !parse_ask_reply(body, {a}) && !parse_ask_reply(body, {a, b, a}));
  for (const char* bad : {"", "\n", "runner 1\n", "end\n", "end x\n", "end 1 2\n", "end -1\n",
                          "end 18446744073709551616\n", "end 1\nrunner\n", "end 1\nroom yes\n", "end 1\ntaking \n",
                          "end 1\nrelay 1 1\n", "end 1\nsent rep_3 5\n", "end 1\nsent rep_3 x y\n", "end 1\nknown x\n",
                          "end 1\nyours x\n", "end 1\nother x\n", "end 1\nended x\n", "end 1\nabout x f 1 2\n"})
    CHECK(!parse_ask_reply(bad, {}));
  // Parsing a reply that is cut off or altered succeeds or fails, but does not crash.
  for (size_t i = 0; i <= body.size(); ++i) {
    std::string altered = body;
    if (i < body.size()) altered[i] = static_cast<char>(i * 37);
    static_cast<void>(parse_ask_reply(altered, {a, b}));
    CHECK(i + 150 >= body.size() || !parse_ask_reply(body.substr(0, i), {a, b}));
  }
}

// The view of a node rep_1 with --takeover 30 s and --alone-after 600 s. The others are rep_2 and rep_3.
class Watch {
 public:
  Watch() : fd(30 * s, 600 * s) {
    fd.add("rep_2", {}), fd.add("rep_3", {});
    fd.begin(times(m_now));
  }

  // Advances the time to `second` while this node runs. Returns the reasons for which the node has to return.
  std::string at(int second) {
    std::string why;
    for (; m_now < second * s; m_now += s) why += fd.beat(times(m_now + s)).value_or("");
    return why;
  }
  // The same, but this node is stopped until `second`.
  std::string stopped_until(int second) { return fd.beat(times(m_now = second * s)).value_or(""); }

  std::string hears(const std::string& node) { return fd.heard(node, m_now).value_or(""); }
  // Another node answers a question of `round`: its journal ends at `end`, and it has sent everything up to `sent` to
  // this node. Returns true if it was gone and is back.
  bool answers(const std::string& node, Lsn end, std::optional<Lsn> sent, FailureDetector::Round round,
               bool taking = false) {
    hears(node);
    return fd.answered(node, round, {.end = end, .runner = true, .taking = taking}, sent, m_now).back;
  }
  bool answers(const std::string& node, Lsn end, std::optional<Lsn> sent) {
    return answers(node, end, sent, fd.round());
  }
  void is_silent(const std::string& node) { fd.failed(node, fd.round(), true, m_now); }

  std::string waits(bool has_jobs = true) {
    std::string text = wait_text(fd.standby(m_now, has_jobs), {});
    return text.substr(0, text.find(" what"));
  }
  bool returns() { return waits().empty() && fd.end_return(fd.round()); }
  std::vector<std::string> gone() { return fd.notice_gone(m_now); }

  static constexpr Millis s{1000};
  FailureDetector fd;

 private:
  static Times times(Millis boot) { return {boot, Millis(1'700'000'000'000) + boot}; }
  Millis m_now{0};
};

void a_silent_node_is_gone_until_it_answers() {
  using Names = std::vector<std::string>;
  Watch w;
  w.answers("rep_2", 10, 10), w.answers("rep_3", 10, 10);
  CHECK(w.returns());
  w.at(20), w.answers("rep_3", 10, 10);
  w.at(29);
  CHECK(w.gone().empty() && w.fd.answers("rep_2", 29 * w.s));
  w.at(30);
  CHECK(w.gone() == Names{"rep_2"} && w.gone().empty() && w.fd.is_gone("rep_2") && !w.fd.answers("rep_2", 30 * w.s));
  CHECK(w.fd.lacks("rep_2", "f", 30 * w.s) && !w.fd.lacks("rep_3", "f", 30 * w.s));
  // rep_2 asks: its jobs are not taken over, although it is gone until it answers.
  CHECK(w.fd.stays_gone("rep_2", 30 * w.s) && !w.fd.stays_gone("rep_3", 30 * w.s));
  w.fd.asked_by("rep_2", 30 * w.s);
  CHECK(w.fd.is_gone("rep_2") && !w.fd.stays_gone("rep_2", 31 * w.s) && w.fd.stays_gone("rep_2", 60 * w.s));
  // The same if rep_2 sends anything else, although it does not answer.
  Watch once_more;
  once_more.at(30), once_more.gone();
  CHECK(once_more.fd.stays_gone("rep_2", 30 * w.s));
  once_more.fd.heard("rep_2", 30 * w.s);
  CHECK(once_more.fd.is_gone("rep_2") && !once_more.fd.stays_gone("rep_2", 59 * w.s));
  w.at(31);
  CHECK(w.answers("rep_2", 10, 10) && !w.answers("rep_2", 10, 10) && !w.fd.is_gone("rep_2"));
  CHECK(w.fd.has_returned());  // rep_3 has answered all the time
  w.at(60);
  CHECK(w.gone() == Names{"rep_3"});
  // If no server can be reached, no node is gone.
  for (int second = 61; second < 200; ++second) {
    w.at(second);
    w.fd.failed("rep_2", w.fd.round(), false, second * w.s);
    CHECK(w.gone().empty() && !w.fd.lacks("rep_2", "f", second * w.s));
  }
  // A forgotten node is not gone, is not expected to run anything, and its messages have no effect.
  w.fd.remove("rep_2");
  w.at(300);
  CHECK(w.gone().empty() && w.hears("rep_2").empty() && !w.answers("rep_2", 1, 1) && !w.fd.is_gone("rep_2") &&
        w.fd.lacks("rep_2", "f", 300 * w.s));
}

void a_node_returns_when_the_others_have_sent_it_all() {
  Watch w;
  CHECK(!w.fd.has_returned() && w.waits().substr(0, 32) == "until rep_2 or rep_3 can be aske");
  w.answers("rep_2", 100, 50), w.is_silent("rep_3");
  CHECK(w.waits() == "until rep_2 has told");
  w.at(1), w.answers("rep_2", 200, 99);
  CHECK(w.waits() == "until rep_2 has told");
  w.at(2), w.answers("rep_2", 300, 100);  // this return does not wait for records from after its beginning
  CHECK(w.returns());
  // The silence of all other nodes is a reason to return. If a single node answers, there is no reason.
  w.at(31), w.answers("rep_2", 300, 300), w.at(62);
  CHECK(w.hears("rep_2") == "no other node had answered for 31 s" && !w.fd.has_returned());
  CHECK(w.hears("rep_2").empty() && !w.waits().empty());
  // For this return, an answer to an earlier question is ignored, and so is the answer of a node that is taking over
  // this node's jobs.
  const auto before = w.fd.round() - 1;
  w.answers("rep_2", 300, 300, before), w.is_silent("rep_3");
  CHECK(!w.returns() && w.waits().substr(0, 9) == "until rep");
  w.answers("rep_2", 300, 300, before + 1, true);
  CHECK(!w.returns());
  w.answers("rep_2", 300, 300);
  // rep_2 has a new identity. Only the store with the old identity had sent everything.
  w.fd.is_another("rep_2");
  CHECK(!w.returns());
  w.answers("rep_2", 5, std::nullopt);
  CHECK(w.waits() == "until rep_2 has told");
  w.answers("rep_2", 5, 5);
  CHECK(w.returns());
}

void a_node_that_was_stopped_returns() {
  Watch w;
  w.answers("rep_2", 1, 1), w.answers("rep_3", 1, 1);
  const auto round = w.fd.round();
  CHECK(w.returns() && w.stopped_until(15).empty() && w.fd.has_returned());
  CHECK(w.stopped_until(31) == "this node was stopped for 16 s" && !w.fd.has_returned());
  // An answer to an earlier question does not end the return. This node received nothing while it was stopped, so the
  // other nodes are not gone.
  w.answers("rep_2", 1, 1, round), w.answers("rep_3", 1, 1, round);
  CHECK(!w.returns() && !w.fd.end_return(round) && !w.fd.has_returned() && w.gone().empty());
  CHECK(w.stopped_until(1000) == "this node was stopped for 969 s" && w.gone().empty() &&
        !w.fd.lacks("rep_2", "f", 1000 * w.s));
  CHECK(w.hears("rep_2").empty());  // one reason is enough
  w.answers("rep_2", 1, 1), w.answers("rep_3", 1, 1);
  CHECK(w.returns());
}

void a_node_that_answers_late_tells_what_it_knows() {
  Watch w;
  w.answers("rep_2", 10, 10), w.is_silent("rep_3");
  CHECK(w.returns());
  // rep_3 may have ended jobs of this node before it fell silent.
  const auto round = w.fd.round();
  w.at(1), w.answers("rep_3", 100, 50);
  CHECK(!w.fd.has_returned() && w.fd.round() != round && w.waits() == "until rep_3 has told");
  w.at(2), w.answers("rep_3", 200, 100);
  CHECK(w.returns());
  w.at(3), w.answers("rep_3", 300, 200);
  CHECK(w.fd.has_returned());
  // A new node of the group has ended nothing.
  w.fd.add("rep_4", 3 * w.s), w.answers("rep_4", 50, 0);
  CHECK(w.fd.has_returned());
  // A node that answers late, but has sent everything, does not stop this node.
  Watch complete;
  complete.answers("rep_2", 10, 10), complete.is_silent("rep_3");
  CHECK(complete.returns());
  complete.at(1), complete.answers("rep_3", 50, 50);
  CHECK(complete.fd.has_returned());
}

void a_node_still_has_to_tell_the_rest() {
  // This node is away again before it has received everything.
  Watch w;
  w.answers("rep_2", 100, 50), w.answers("rep_3", 1, 1);
  CHECK(!w.stopped_until(16).empty());
  w.answers("rep_3", 1, 1), w.is_silent("rep_2");
  CHECK(w.waits() == "until rep_2 has told");
  // Then it has to ask again: an answer to an earlier question ends no return.
  Watch old;
  old.answers("rep_2", 100, 50), old.answers("rep_3", 1, 1);
  CHECK(!old.stopped_until(16).empty());
  old.answers("rep_2", 100, 100, old.fd.round() - 1);
  CHECK(old.waits().substr(0, 31) == "until rep_2 or rep_3 can be ask");
  // This node notices that it was away when an earlier question is answered.
  Watch late;
  late.answers("rep_2", 1, 1), late.answers("rep_3", 1, 1);
  const auto round = late.fd.round();
  CHECK(late.returns() && !late.stopped_until(16).empty());
  late.answers("rep_2", 100, 50, round), late.answers("rep_3", 1, 1), late.is_silent("rep_2");
  CHECK(late.waits() == "until rep_2 has told");
  late.answers("rep_2", 200, 150);
  CHECK(late.waits() == "until rep_2 has told");
  late.answers("rep_2", 200, 200);
  CHECK(late.returns());
  // If anything has come from a node that was gone, the node is not gone any more.
  Watch gone;
  gone.answers("rep_2", 100, 50), gone.answers("rep_3", 1, 1);
  gone.at(31), gone.gone(), gone.answers("rep_3", 1, 1);
  CHECK(gone.waits().empty());
  gone.hears("rep_2");
  CHECK(gone.fd.is_gone("rep_2") && gone.waits() == "until rep_2 has told");
  // The same if the return had ended meanwhile.
  Watch silent;
  silent.answers("rep_2", 100, 50), silent.answers("rep_3", 1, 1);
  silent.at(30), silent.gone(), silent.answers("rep_3", 1, 1);
  CHECK(silent.returns() && silent.hears("rep_3").empty() && silent.fd.has_returned());
  silent.hears("rep_2");
  CHECK(!silent.fd.has_returned() && silent.waits() == "until rep_2 has told");
  silent.answers("rep_2", 200, 100);
  CHECK(silent.returns() && silent.hears("rep_2").empty() && silent.fd.has_returned());
  // While rep_2 takes over this node's jobs, its answers do not end the return.
  Watch taking;
  taking.answers("rep_3", 1, 1), taking.answers("rep_2", 1, 1, taking.fd.round(), true);
  CHECK(taking.waits().substr(0, 18) == "until rep_2 can be");
}

void a_node_that_hears_nobody_waits_longer() {
  Watch w;
  w.is_silent("rep_2"), w.is_silent("rep_3");
  CHECK(w.waits(false).empty() && !w.waits().empty());  // without jobs, nothing can run twice
  w.at(599), w.gone();
  CHECK(!w.returns());
  w.at(600);
  CHECK(w.returns());
}

// The membership of rep_1. The other members are rep_2 and rep_3, which rep_1 has never met.
struct Three {
  static std::string store(char c) { return std::string(ulid_size, c); }
  Group group{{"rep_1", store('1')}, {"rep_1", "rep_2", "rep_3"}, 2, true};
  Membership members{group};
  Meeting meet(const std::string& node, char its, bool alive, int second, const char* session = "s") {
    return members.meet(node, store(its), session, alive, std::chrono::seconds(second), std::chrono::seconds(second));
  }
  Meeting meet_sender(const std::string& node, char its, bool alive = true) {
    return members.meet_sender(node, store(its), alive, {});
  }
};

void who_may_speak_for_a_name() {
  using What = Meeting::What;
  Three t;
  CHECK(!t.members.is("rep_2", "") && t.members.is("rep_1", t.store('1')));
  // The identity of the first store with a name is accepted, even if the store only sends.
  CHECK(t.meet_sender("rep_3", 'c').what == What::first && t.members.store_of("rep_3") == t.store('c'));
  CHECK(t.meet("rep_2", 'b', true, 0).what == What::first && t.meet("rep_2", 'b', true, 1).what == What::as_before);
  // A store with the identity of another node is refused.
  for (char taken : {'1', 'c'})
    CHECK(t.meet("rep_2", taken, false, 1).reason.find("has the identity of another node") != std::string::npos &&
          t.meet_sender("rep_2", taken, false).what == What::refused);
  // A transfer with another identity is accepted; the identity itself is accepted only with an answer.
  CHECK(t.meet_sender("rep_2", 'd').what == What::unproved && t.members.is("rep_2", t.store('b')));
  CHECK(t.meet("rep_2", 'd', true, 2).what == What::another && t.members.is("rep_2", t.store('d')));
  // As long as the newer store answers, the older one is a second node with that name.
  CHECK(t.meet("rep_2", 'b', true, 3).reason == "two nodes claim the name rep_2" &&
        t.meet_sender("rep_2", 'b').reason == "two nodes claim the name rep_2");
  CHECK(t.meet_sender("rep_2", 'b', false).what == What::unproved &&
        t.meet("rep_2", 'b', false, 40).what == What::another);
  // An answer is too late if its question was asked before the node was met or had sent a transfer.
  const Millis met = std::chrono::seconds(40), later = std::chrono::seconds(400);
  CHECK(t.members.meet("rep_2", t.store('d'), "s", false, met - Millis(1), later).what == What::refused &&
        t.members.is("rep_2", t.store('b')));
  Three three;
  three.meet_sender("rep_3", 'c');
  CHECK(three.meet("rep_3", 'd', false, 0).what == What::refused &&
        three.meet("rep_3", 'd', false, 1).what == What::another);
  // If a node changes its identity too often, the change is not accepted: see RateLimit.
  CHECK(t.meet("rep_2", 'e', true, 41).what == What::another);
  CHECK(t.meet("rep_2", 'f', true, 42).reason == "rep_2 changes its store too often" &&
        t.members.is("rep_2", t.store('e')) && t.meet("rep_2", 'f', true, 400).what == What::another);
  // Another process of the same store may have lost unsynced records.
  CHECK(t.meet("rep_3", 'c', true, 0, "s").restarted && !t.meet("rep_3", 'c', true, 1, "s").restarted &&
        t.meet("rep_3", 'c', true, 2, "r").restarted);
  // A node that is a relay at some times only.
  const Millis now{std::chrono::hours(1)};
  CHECK(t.members.set_relay("rep_3", false, now) == false && t.members.set_relay("rep_3", true, now) == true &&
        t.members.is_relay("rep_3") && t.members.set_relay("rep_3", true, now) == false);
  CHECK(t.members.set_relay("rep_3", false, now) && t.members.set_relay("rep_3", true, now) &&
        !t.members.set_relay("rep_3", false, now) && t.members.is_relay("rep_3"));
}

void a_transfer_is_for_this_node_from_its_group() {
  Three t;
  auto refused = [&](const char* group, const char* node, const char* to) {
    Transfer transfer;
    transfer.group = group, transfer.node = node, transfer.to = to;
    auto refusal = t.members.refuse(transfer);
    return std::string(refusal ? refusal->kind : "");
  };
  CHECK(refused("rep_1:once", "rep_2", "rep_1").empty());
  CHECK(refused("rep_1:all", "rep_2", "rep_1") == "group" && refused("rep_1:once", "rep_2", "rep_3") == "to");
  for (const char* node : {"rep_4", "rep_1", ""}) CHECK(refused("rep_1:once", node, "rep_1") == "node");
}

void a_group_changes() {
  using What = Meeting::What;
  using Names = std::vector<std::string>;
  Three t;
  t.meet("rep_2", 'b', true, 0), t.meet("rep_3", 'c', true, 0);
  std::map<std::string, PeerState> known{{"rep_2", {t.store('b'), 7, 0, {}}}, {"rep_3", {t.store('c'), 7, 0, {}}}};
  // A gq.json of another store changes nothing.
  Group renewed = t.group;
  renewed.self.store = t.store('9'), renewed.members = {"rep_1"};
  CHECK(t.members.change(renewed, known).of_another && t.members.has("rep_3"));
  // One node is forgotten. This is recorded unless the journal has it already.
  Group two = t.group;
  two.members = {"rep_1", "rep_2"};
  auto change = t.members.change(two, known);
  CHECK(!change.of_another && change.removed == Names{"rep_3"} && change.forgotten == Names{"rep_3"});
  CHECK(!t.members.has("rep_3") && t.members.store_of("rep_3").empty() && t.members.group().members.size() == 2 &&
        t.meet("rep_3", 'c', true, 1).what == What::refused && t.meet_sender("rep_3", 'c').what == What::refused);
  known["rep_3"] = {"", UINT64_MAX, 0, {t.store('c')}};
  change = t.members.change(two, known);
  CHECK(change.removed.empty() && change.forgotten.empty());
  // The node is in the group again with its old identity, which is accepted. There is also a new node.
  Group four = t.group;
  four.members.push_back("rep_4");
  change = t.members.change(four, known);
  CHECK(change.removed.empty() && change.forgotten.empty() && t.members.has("rep_3") && t.members.has("rep_4"));
  // The journal may have got the record that forgets the node just before the node joined again. (A relay is owed
  // nothing either, but it has an identity.)
  CHECK(change.returned == Names{"rep_3"});
  known["rep_3"].store = t.store('c');
  CHECK(t.members.change(four, known).returned.empty());
  known["rep_3"].store.clear();
  t.members.take_up("rep_3", known["rep_3"]);
  CHECK(t.meet("rep_4", 'd', true, 2).what == What::first && t.meet("rep_3", 'c', true, 2).what == What::first &&
        t.members.is("rep_2", t.store('b')));
}

// The view of rep_2 in a group in which each job runs on one node. It runs f and g. For each function, its store has
// jobs of rep_3 and rep_1. All nodes have answered, and rep_2 has returned.
class Group3 {
 public:
  Group3() {
    held.runs = {true, false, {"f", "g"}};
    held.functions = {"f", "g"};
    held.nodes = {"rep_1", "rep_3"};
    fd.add("rep_1", {}), fd.add("rep_3", {});
    fd.begin({});
    for (const char* node : {"rep_1", "rep_3"}) {
      members.meet(node, store(node[4]), "s", true, {}, {});
      runs(node, {{"f", "g"}});
    }
    fd.end_return(fd.round());
    due();  // each node has been asked once which jobs it knows
  }

  static std::string store(char c) { return "0" + std::string(ulid_size - 1, c); }
  void at(int second) {
    for (; now < std::chrono::seconds(second); now += std::chrono::seconds(1)) fd.beat({now, now});
  }
  // A node answers, and names the functions that it runs (nullopt: it runs no commands).
  void runs(const std::string& node, std::optional<std::vector<std::string>> functions) {
    fd.heard(node, now);
    fd.answered(node, fd.round(), {.end = 1, .runner = functions.has_value(), .functions = functions}, 1, now);
  }
  std::string due() {
    std::string text;
    for (const auto& what : ownership.due(held, members, fd, now))
      text += what.node + (what.cause == Takeover::Cause::gone   ? " gone "
                           : what.cause == Takeover::Cause::idle ? " idle "
                           : what.cause == Takeover::Cause::lost ? " lost "
                                                                 : " former ");
    return text;
  }
  static HeldJob job(char c, const std::string& function, const std::string& node) {
    HeldJob j{store(c), {}};
    j.job.function = function, j.job.node = node, j.job.store = store(node[4]), j.job.state = State::held;
    return j;
  }
  static std::string ids(const std::vector<HeldJob>& jobs) {
    std::string text;
    for (const auto& j : jobs) text += j.id[1];
    return text;
  }

  Millis now{0};
  HeldHere held;
  FailureDetector fd{Millis(30'000), Millis(600'000)};
  Membership members{Group{{"rep_2", store('2')}, {"rep_1", "rep_2", "rep_3"}, 2, true}};
  Ownership ownership{Self{"rep_2", store('2')}};
};

void takeovers_are_due_when_an_owner_fails() {
  Group3 g;
  g.at(1);
  CHECK(g.due().empty());
  // rep_3 loses its worker for f. rep_1 falls silent.
  for (int second = 2; second < 30; ++second) g.at(second), g.runs("rep_3", {{"g"}});
  CHECK(g.due().empty());
  g.at(30), g.runs("rep_3", {{"g"}}), g.fd.notice_gone(g.now);
  CHECK(g.due() == "rep_1 gone rep_3 idle " && g.due().empty());  // once a second
  g.at(31);
  CHECK(g.due() == "rep_1 gone rep_3 idle ");
  // If the attempt took a second and no job was taken over, it is repeated after 20 s. If a job was taken over, it is
  // repeated at once.
  g.ownership.takeover_ended({"rep_3", Takeover::Cause::idle}, 0, g.now - Millis(1000), g.now);
  g.ownership.takeover_ended({"rep_1", Takeover::Cause::gone}, 3, g.now - Millis(1000), g.now);
  g.at(32), g.runs("rep_3", {{"g"}});
  CHECK(g.due() == "rep_1 gone ");
  // A node that does not run f may still have lost jobs that it runs.
  g.at(51), g.runs("rep_3", {{"g"}}), g.ownership.may_have_lost("rep_3");
  CHECK(g.due() == "rep_1 gone rep_3 idle rep_3 lost ");
  // A node does not take over functions that it does not run.
  g.at(52), g.held.functions = {"g"}, g.runs("rep_1", {{"g"}}), g.runs("rep_3", {{"g"}});
  CHECK(g.due().empty());
  // But a node asks about jobs that their owner has lost, even if it runs nothing. It asks once, and again if that
  // fails. It asks each node again when this node runs more functions.
  g.held.runs = {};
  g.at(53), g.ownership.may_have_lost("rep_3");
  CHECK(g.due() == "rep_3 lost ");
  g.ownership.failed({"rep_3", Takeover::Cause::lost});
  g.at(54);
  CHECK(g.due() == "rep_3 lost ");
  g.at(55);
  CHECK(g.due().empty());
  g.held.runs = {true, false, {"f", "g"}}, g.at(56);
  CHECK(g.due() == "rep_1 lost rep_3 lost ");
  // A node that is not in the group, and this node before it was recreated.
  g.held.nodes = {"rep_1", "rep_2", "rep_9"}, g.at(57);
  CHECK(g.due() == "rep_2 former rep_9 former " && g.due().empty());
  // Each node is asked now and then in any case.
  int times = 0;
  for (int second = 58; second < 1250; ++second) {
    g.at(second), g.runs("rep_3", {{"f", "g", "h"}});
    times += g.due().find("rep_3 lost ") != std::string::npos;
  }
  CHECK(times == 2);
  // While this node returns, it asks about no jobs.
  g.at(1250), g.fd.begin({g.now, g.now}), g.ownership.may_have_lost("rep_3");
  CHECK(g.due().empty());
}

void jobs_are_left_to_the_node_that_comes_first() {
  using Cause = Takeover::Cause;
  Group3 g;
  const Takeover gone{"rep_3", Cause::gone};
  const std::vector<HeldJob> all{g.job('A', "f", "rep_3"), g.job('B', "g", "rep_3"), g.job('C', "h", "rep_3")};
  auto jobs = all;
  for (int second = 1; second <= 30; ++second) g.at(second), g.runs("rep_3", {{"g"}});
  Ownership::leave_others(jobs, {"rep_3", Cause::idle}, g.held.runs, g.fd, g.now);
  CHECK(g.ids(jobs) == "A");  // g runs on the other node, and h does not run on this node
  for (int second = 31; second <= 60; ++second) g.at(second), g.runs("rep_1", {{"f"}});
  g.fd.notice_gone(g.now);
  jobs = all;
  Ownership::leave_others(jobs, gone, g.held.runs, g.fd, g.now);
  CHECK(g.ids(jobs) == "AB");

  // rep_1 takes precedence for jobs that it runs and knows, but not for a job that this node owns according to rep_1:
  // this node had sent that takeover before a crash.
  CHECK(g.ownership.before(gone, g.members, g.fd) == std::vector<std::string>{"rep_1"});
  CHECK(g.ownership.before({"rep_1", Cause::idle}, g.members, g.fd).empty());
  CHECK(g.ownership.before({"rep_1", Cause::lost}, g.members, g.fd) ==
        std::vector<std::string>{"rep_1"});  // rep_3 is gone
  jobs = {g.job('A', "f", "rep_3"), g.job('B', "g", "rep_3"), g.job('C', "f", "rep_3"), g.job('D', "f", "rep_3")};
  const auto asked = g.ownership.to_ask(jobs, "rep_1", g.held.runs, g.members, g.fd, g.now);
  CHECK(asked == std::vector<std::string>({g.store('A'), g.store('C'), g.store('D')}));
  AskReply reply;
  reply.known = {true, false, true}, reply.yours = {g.store('D')};
  Ownership::leave_to_those_before(jobs, asked, reply);
  CHECK(g.ids(jobs) == "BCD");
  g.at(90), g.fd.notice_gone(g.now);
  CHECK(g.ownership.before(gone, g.members, g.fd).empty());  // rep_1 is gone, too

  // An owner that answers keeps the jobs that it knows, except jobs of an older identity.
  jobs = all;
  jobs[1].job.store = g.store('9');
  reply.known = {true, true, false};
  CHECK(g.ownership.leave_to_owner(jobs, Ownership::ids_of(jobs), reply, "rep_3", g.members).empty());
  CHECK(g.ids(jobs) == "BC");
}

// Two nodes have accepted the job, and each may have the other node, or a third one, as the owner. Then this node sends
// its state to all nodes. This also happens if the owner has lost the record of its takeover. The owner itself sends
// later changes.
void nodes_agree_on_the_owner_of_a_job() {
  Group3 g;
  auto taken = [&](const AskReply& reply, uint32_t term) {
    std::vector<HeldJob> jobs{g.job('A', "f", "rep_3")};
    jobs[0].job.term = term;
    auto said = g.ownership.leave_to_owner(jobs, {jobs[0].id}, reply, "rep_3", g.members);
    CHECK(jobs.empty());  // for now, the job is left to the node that knows it
    for (const auto& state : said)
      CHECK(state.id == g.store('A') && state.node == "rep_3" && state.store == g.store('3') && state.term == term &&
            state.from == "rep_2" && state.from_store == g.store('2'));
    return said.size();
  };
  AskReply knows, takes_it_for_mine, takes_it_for_a_thirds;
  gq::Job job = g.job('A', "f", "rep_3").job;
  const Self self{"rep_2", g.store('2')}, owner{"rep_3", g.store('3')};
  knows.say_of(g.store('A'), job, self, owner);
  job.node = "rep_1", job.store = g.store('1');
  takes_it_for_a_thirds.say_of(g.store('A'), job, self, owner);
  job.node = "rep_2", job.store = g.store('2');
  takes_it_for_mine.say_of(g.store('A'), job, self, owner);
  CHECK(taken(knows, 0) == 0 && taken(takes_it_for_mine, 0) == 1 && taken(takes_it_for_a_thirds, 0) == 1);
  CHECK(taken(takes_it_for_mine, 1) == 1 && taken(takes_it_for_a_thirds, 1) == 1);
  AskReply has_changed;
  job.node = "rep_1", job.store = g.store('1'), job.version = 1;
  has_changed.say_of(g.store('A'), job, self, owner);
  CHECK(has_changed.others.empty());
}

// If a node sends an older state, this node sends the newer one. If the states are equal, it sends nothing; otherwise
// the two would never stop. An end is newer than every other state, and no end is newer than another.
void an_older_state_is_answered_with_the_newer_one() {
  using Kind = PeerVerdict::Kind;
  using What = StateVerdict::Record;
  const HeldJob held = Group3::job('A', "f", "rep_3");
  Self self{"rep_1", Group3::store('1')};
  auto verdict = [&self](const gq::Job& received, const std::optional<gq::Job>& known) {
    const auto [kind, record] = verdict_on(state_of(Group3::store('A'), received), known, self);
    CHECK((kind == Kind::need) == (!known && received.state != State::finished));
    return record;
  };
  // The states, from the oldest to the newest.
  std::vector<gq::Job> states(7, held.job);
  states[1].store = "1";
  states[2].changed_at = Millis(1);
  states[3].version = 1;
  states[4].term = 1;
  states[5].state = State::kept;
  states[6].state = State::finished;
  for (size_t received = 0; received < states.size(); ++received)
    for (size_t known = 0; known < states.size(); ++known)
      CHECK(verdict(states[received], states[known]) == (received > known   ? What::received
                                                         : received < known ? What::known
                                                                            : What::nothing));
  CHECK(verdict(states[0], {}) == What::nothing && verdict(states[6], {}) == What::received);
  // An end is never undone, and no end is newer than another.
  gq::Job later = states[6];
  later.term = 5, later.version = 5, later.changed_at = Millis(9);
  CHECK(verdict(states[6], later) == What::nothing && verdict(later, states[6]) == What::nothing);
  gq::Job dead = states[4];
  dead.state = State::dead, dead.term = 9;
  CHECK(verdict(dead, states[6]) == What::known && verdict(states[6], dead) == What::received);
  // A node sends on that its own job is dead.
  CHECK(verdict(dead, states[0]) == What::received && verdict(states[3], states[0]) == What::received);
  self = {states[0].node, states[0].store};
  CHECK(verdict(dead, states[0]) == What::received_as_own && verdict(states[3], states[0]) == What::received);
}

// One node knows the end of a job, and the node that should have sent the end has lost it. A node that asks about the
// job does not take it over, and sends its own state to all nodes. Then it receives the end.
void a_job_that_ended_elsewhere_is_left_alone() {
  using Cause = Takeover::Cause;
  Group3 g;
  const Millis remember{24 * 3600'000};
  // One node knows that A has ended. No other node knows A or B.
  auto inquire = [&](const Takeover& what, const std::string& knows) {
    const Times now{g.now, 2 * remember};
    Inquiry inquiry(what, g.held.runs, {g.job('A', "f", what.node), g.job('B', "f", what.node)});
    std::string sent;
    while (auto question = inquiry.next(g.ownership, g.members, g.fd, remember, now)) {
      AskReply reply{.end = 1};
      for (const auto& id : question->ids) {
        std::optional<gq::Job> job;
        if (question->node == knows && id == g.store('A')) job.emplace().state = State::finished;
        reply.say_of(id, job, {"rep_2", g.store('2')}, {knows, g.store(knows[4])});
      }
      for (const auto& state : inquiry.answered(reply, g.ownership, g.members, g.fd, now)) {
        sent += state.id[1];
        CHECK(state.from == "rep_2" && state.node == what.node && state.state == "queued");
      }
    }
    return sent + " " + g.ids(inquiry.jobs()) + " " + std::to_string(inquiry.stale().size());
  };
  CHECK(inquire({"rep_3", Cause::lost}, "rep_3") == "A B 0");    // its owner
  CHECK(inquire({"rep_3", Cause::lost}, "rep_1") == "A B 0");    // a node that comes before this one
  CHECK(inquire({"rep_2", Cause::former}, "rep_3") == "A B 1");  // a node that is asked whether the job is stale
  CHECK(inquire({"rep_3", Cause::lost, false}, "rep_1") == " B 0");
}

// One node has another job with the ID of A. If its workload or function differs, that node does not know A.
void another_job_with_its_id_says_nothing_of_a_job() {
  using Cause = Takeover::Cause;
  Group3 g;
  const Millis remember{24 * 3600'000};
  auto held = [&](const std::string& owner) {
    HeldJob job = g.job('A', "f", owner);
    job.job.first_lsn = 5, job.job.size = 3, job.job.sum = 33;
    return job;
  };
  auto inquire = [&](const Takeover& what, const std::string& knows, gq::Job other) {
    const Times now{g.now, 2 * remember};
    Inquiry inquiry(what, g.held.runs, {held(what.node)});
    size_t sent = 0;
    while (auto question = inquiry.next(g.ownership, g.members, g.fd, remember, now)) {
      AskReply reply{.end = 1};
      for (const auto& id : question->ids)
        reply.say_of(id, question->node == knows ? std::optional(other) : std::nullopt, {"rep_2", g.store('2')},
                     {knows, g.store(knows[4])});
      sent += inquiry
                  .answered(*parse_ask_reply(encode_ask_reply(reply, question->ids), question->ids), g.ownership,
                            g.members, g.fd, now)
                  .size();
    }
    return std::to_string(sent) + " " + g.ids(inquiry.jobs()) + " " + std::to_string(inquiry.stale().size());
  };
  const gq::Job same = held("rep_3").job;
  for (State state : {State::queued, State::finished}) {
    gq::Job known = same, size = same, sum = same, function = same, older = same;
    size.size = 4, sum.sum = 34, function.function = "g", older.first_lsn = 0;
    for (auto* job : {&known, &size, &sum, &function, &older}) job->state = state;
    const std::string sent = state == State::finished ? "1" : "0";
    for (auto [what, node] : {std::pair{Takeover{"rep_3", Cause::lost}, "rep_3"}, {{"rep_3", Cause::lost}, "rep_1"}}) {
      CHECK(inquire(what, node, known) == sent + "  0" && inquire(what, node, older) == sent + "  0");
      for (const auto& other : {size, sum, function}) CHECK(inquire(what, node, other) == "0 A 0");
    }
    CHECK(inquire({"rep_2", Cause::former}, "rep_3", size) == "0 A 1");
  }
}

void old_unknown_jobs_are_stale() {
  Group3 g;
  std::vector<HeldJob> jobs{g.job('A', "f", "rep_2"), g.job('B', "f", "rep_2")};
  jobs[0].job.changed_at = Millis(1000), jobs[1].job.changed_at = Millis(2000);
  CHECK(Ownership::maybe_stale(jobs, Millis(500), Millis(2000)) == std::vector<std::string>{g.store('A')});
  // All other nodes must be asked, except a relay, which stores no jobs.
  CHECK(Ownership::all_others(g.members, g.fd) == std::vector<std::string>({"rep_1", "rep_3"}));
  g.members.set_relay("rep_3", true, {});
  CHECK(Ownership::all_others(g.members, g.fd) == std::vector<std::string>{"rep_1"});
  g.at(30), g.fd.notice_gone(g.now);
  CHECK(!Ownership::all_others(g.members, g.fd));
}

void records_of_absent_nodes_are_passed_on() {
  Group3 g;
  auto is_mine = [&](const std::string& node, char id) { return is_mine_to_send(g.members, g.fd, node, g.store(id)); };
  CHECK(is_mine("rep_2", '2') && is_mine("rep_2", '9'));   // its own records, also those of an older identity
  CHECK(is_mine("rep_9", '9'));                            // those of a node outside the group
  CHECK(!is_mine("rep_3", '3') && is_mine("rep_3", '8'));  // and those of an older identity of another node
  g.at(30), g.fd.notice_gone(g.now);
  CHECK(is_mine("rep_3", '3'));
}

void a_takeover_is_sent_before_it_is_written() {
  using Cause = Takeover::Cause;
  Group3 g;
  const Takeover gone{"rep_3", Cause::gone};
  const std::vector<HeldJob> jobs{g.job('A', "f", "rep_3"), g.job('B', "f", "rep_3")};
  auto take = [&](const Takeover& what) {
    return g.ownership.take(what, jobs, {g.store('B')}, g.fd, {g.now, Millis(77)});
  };
  // No takeover if the other node answers or asks (a node that is back asks), or while this node itself returns.
  CHECK(!take(gone) && !g.ownership.is_taking("rep_3"));
  for (int second = 1; second <= 40; ++second) g.at(second), g.runs("rep_1", {{"f"}});
  g.fd.notice_gone(g.now);
  g.fd.asked_by("rep_3", g.now);
  CHECK(!take(gone) && take({"rep_3", Cause::former}));
  g.ownership.taken();
  for (int second = 41; second <= 70; ++second) g.at(second), g.runs("rep_1", {{"f"}});
  auto effect = take(gone);
  CHECK(effect && g.ownership.is_taking("rep_3") && !g.ownership.is_taking("rep_1") && !g.ownership.is_taking(""));
  CHECK(effect->to_send().size() == 2);
  for (const auto& change : effect->to_send()) {
    CHECK(change.job.node == "rep_2" && change.job.store == g.store('2') && change.job.term == 1 &&
          change.job.version == 1 && change.job.changed_at == Millis(77));
    auto sent = parse_record(change.sent), appended = parse_record(change.appended);
    auto* t = std::get_if<event::State>(&sent->event);
    auto* a = std::get_if<event::State>(&appended->event);
    CHECK(t && t->from == "rep_2" && t->from_store == g.store('2') && t->node == "rep_2" && t->term == 1);
    CHECK(a && a->from.empty() && a->node == "rep_2" && a->id == t->id && is_newer(*a, jobs[0].job));
  }
  CHECK(!effect->to_send()[0].stale && effect->to_send()[1].stale && effect->to_send()[1].job.state == State::dead);
  const std::string first = effect->to_send()[0].appended;
  const auto records = std::move(*effect).then_append();
  CHECK(records.size() == 2 && records[0] == first && effect->to_send().empty());
  g.ownership.taken();
  CHECK(!g.ownership.is_taking("rep_3"));
  // A forged job may have the highest term or version, so that no newer state is possible.
  for (const bool term : {true, false}) {
    HeldJob made_up = g.job('C', "f", "rep_3");
    (term ? made_up.job.term : made_up.job.version) = most_received;
    effect = g.ownership.take(gone, {made_up, jobs[0]}, {}, g.fd, {g.now, Millis(77)});
    CHECK(effect && effect->to_send().size() == 1 && effect->to_send()[0].id == jobs[0].id);
    g.ownership.taken();
  }
  g.fd.begin({g.now, g.now});
  CHECK(!take(gone) && !take({"rep_9", Cause::former}));
}

// Before a takeover, the nodes are asked in a fixed order.
void an_inquiry_asks_one_node_after_the_other() {
  using Cause = Takeover::Cause;
  Group3 g;
  const Millis remember{24 * 3600'000};
  std::vector<HeldJob> jobs{g.job('A', "f", "rep_3"), g.job('B', "g", "rep_3"), g.job('C', "h", "rep_3")};
  std::string log;
  // `known`: the jobs that each node knows. The remaining jobs are taken over.
  auto inquire = [&](const Takeover& what, const std::map<std::string, std::string>& known) {
    const Times now{g.now, 2 * remember};
    Inquiry inquiry(what, g.held.runs, jobs);
    log.clear();
    while (auto question = inquiry.next(g.ownership, g.members, g.fd, remember, now)) {
      AskReply reply{.end = 1};
      log += question->node + " ";
      for (const auto& id : question->ids) {
        log += id[1];
        reply.known.push_back(known.at(question->node).find(id[1]) != std::string::npos);
      }
      log += "; ";
      inquiry.answered(reply, g.ownership, g.members, g.fd, now);
    }
    log += g.ids(inquiry.jobs()) + " stale";
    for (const auto& id : inquiry.stale()) log += " " + id.substr(1, 1);
    return log;
  };
  // An owner that may have lost jobs is asked first. Then the nodes that come before this one are asked about the rest.
  // C does not run here, so each node that runs it comes before this one.
  CHECK(inquire({"rep_3", Cause::lost}, {{"rep_3", "A"}, {"rep_1", ""}}) == "rep_3 ABC; rep_1 BC; rep_3 C; BC stale");
  CHECK(inquire({"rep_3", Cause::lost}, {{"rep_3", "B"}, {"rep_1", "AC"}}) == "rep_3 ABC; rep_1 AC;  stale");
  CHECK(inquire({"rep_3", Cause::lost}, {{"rep_3", "ABC"}}) == "rep_3 ABC;  stale");
  // If an owner answers and does not run the jobs, it is asked once more at the end whether that is still so.
  for (int second = 1; second <= 30; ++second) g.at(second), g.runs("rep_1", {{"f", "g"}}), g.runs("rep_3", {{"g"}});
  CHECK(inquire({"rep_3", Cause::idle}, {{"rep_1", ""}, {"rep_3", ""}}) == "rep_1 A; rep_3 ; A stale");
  CHECK(inquire({"rep_3", Cause::idle}, {{"rep_1", "A"}}) == "rep_1 A;  stale");
  // Old jobs of this node's previous store: each other node is asked what it knows of them.
  const Takeover own{"rep_2", Cause::former};
  CHECK(inquire(own, {{"rep_1", ""}, {"rep_3", "B"}}) == "rep_1 AB; rep_1 AB; rep_3 AB; AB stale A");
  for (int second = 31; second <= 60; ++second) g.at(second), g.runs("rep_1", {{"f", "g"}});
  g.fd.notice_gone(g.now);
  CHECK(inquire(own, {{"rep_1", ""}}) == "rep_1 AB; AB stale");  // one of them cannot be asked
}

// The replica of rep_1 in a group in which each job runs on one node. The test drives it step by step. It has met the
// other nodes before.
class Node1 {
 public:
  static std::string store(char c) { return "0" + std::string(ulid_size - 1, c); }
  std::map<std::string, PeerState> known{{"rep_2", {store('2'), 10, 0, {}}}, {"rep_3", {store('3'), 10, 0, {}}}};
  Group group{{"rep_1", store('1')}, {"rep_1", "rep_2", "rep_3"}, 2, true};
  Replica r{group, {}, known, at(0)};
  Times now = at(0);

  static Times at(int second) { return {Millis(second * 1000), Millis(1'700'000'000'000 + second * 1000)}; }
  void to(int second) {
    for (; now.boot < at(second).boot; now = {now.boot + Millis(1000), now.wall + Millis(1000)}) r.beat(now);
    r.beat(now);
  }
  void serve() { r.serve(known, now), r.effects(); }
  std::string lines() {
    std::string text;
    for (const auto& line : r.effects().lines) text += line.text + "\n";
    return text;
  }
  Replica::Acceptance hears(const std::string& node, char its, std::optional<Lsn> end = {}) {
    return r.accept(node, store(its), "s", end, now.boot, now);
  }
  // A node answers a question. Its journal ends at 7, and it has sent all of it.
  std::optional<std::string> answers(const std::string& node, AskReply reply = {.end = 7}) {
    if (auto acceptance = hears(node, node[4]); acceptance.refused) return acceptance.refused;
    reply.sent.push_back({"rep_1", store('1'), 7});
    return r.answered(node, r.round(), reply, 100, now);
  }
  std::string recorded(const std::string& node, bool well = true) {
    auto peer = r.record(node, false, now);
    if (!peer) return {};
    r.recorded(node, well, now);
    return peer->store.substr(1, 1) + " " + std::to_string(peer->position) + " " + std::to_string(peer->since);
  }
};

// A node runs its jobs from the moment when its lease is visible until it has to return again, whichever step notices
// that.
void a_lease_follows_the_return() {
  using What = Replica::Lease::What;
  Node1 n;
  CHECK(!n.r.is_returning());
  n.serve();
  auto lease = n.r.lease(n.now);
  CHECK(n.r.is_returning() && lease.what == What::let_go && lease.beat.waits == "until the other nodes can be asked" &&
        lease.beat.longest == Millis(15'000) && lease.beat.at.boot == n.now.boot);
  n.r.standby(true, n.now);
  CHECK(n.r.effects().lease && n.r.lease(n.now).beat.waits.substr(0, 20) == "until rep_2 or rep_3");
  CHECK(!n.answers("rep_2") && !n.answers("rep_3"));
  CHECK(n.r.lease(n.now).what == What::let_go);  // it is not known yet whether the node has jobs that it can run
  n.r.standby(true, n.now);
  lease = n.r.lease(n.now);
  CHECK(n.r.effects().lease && lease.what == What::take && !n.r.runs_jobs());
  // This process is stopped while it waits for the lock. Then the earlier decision is not valid any more.
  n.now = n.at(20);
  CHECK(!n.r.end_return(lease.round, n.now) && n.lines().substr(0, 30) == "this node was stopped for 20 s");
  CHECK(!n.answers("rep_2") && !n.answers("rep_3"));
  n.r.standby(true, n.now);
  lease = n.r.lease(n.now);
  CHECK(lease.what == What::take && n.r.end_return(lease.round, n.now) && !n.r.runs_jobs());
  CHECK(n.r.lease(n.now).what == What::hold && n.r.lease(n.now).beat.waits.empty() && !n.r.is_returning());
  n.r.holds_lease(lease.round);
  CHECK(n.r.runs_jobs() && n.r.effects().returned);
  // All other nodes are silent for so long that they may have declared this node gone. Then one answers.
  n.to(49);
  CHECK(n.r.runs_jobs() && !n.r.effects().lease);
  n.to(50);
  CHECK(!n.answers("rep_3"));
  CHECK(!n.r.runs_jobs() && n.r.effects().lease && n.r.lease(n.now).what == What::let_go);
  // If each node runs all jobs, there is nothing to wait for.
  Node1 all;
  all.group.once = false;
  all.r.change(all.group, all.known, 90, {}, all.now), all.serve();
  all.r.standby(true, all.now);
  CHECK(all.r.lease(all.now).what == What::take);
}

// The identity of a node is recorded in the journal when it changes. If that fails, it is tried again.
void a_node_is_recorded_when_it_is_met() {
  Node1 n;
  CHECK(!n.hears("rep_2", 'b').refused && n.recorded("rep_2").empty());  // this process does not serve
  n.serve();
  CHECK(!n.answers("rep_2") && n.recorded("rep_2").empty());
  // rep_2 has a new identity: the record needs the end of the journal, and the step has no effect until the caller
  // passes it.
  CHECK(n.hears("rep_2", 'b').needs_end && n.r.members().is("rep_2", n.store('2')) && n.lines().empty());
  CHECK(!n.hears("rep_2", 'b', 99).refused && n.lines().find("rep_2 is another store") == 0);
  CHECK(n.recorded("rep_2", false) == "b 0 99" && n.recorded("rep_2").empty());
  n.to(1);
  CHECK(n.recorded("rep_2") == "b 0 99" && n.recorded("rep_2").empty());
  CHECK(n.hears("rep_2", '3', 99).refused && n.hears("rep_9", '9').refused && n.recorded("rep_9").empty());
  // A relay is owed nothing.
  AskReply relay{.end = 7};
  relay.relay = true;
  CHECK(!n.answers("rep_3", relay) && n.recorded("rep_3") == "3 " + std::to_string(nothing_owed) + " 0" &&
        n.r.up() == std::vector<std::string>{"rep_2"});
}

// The last record about a node that leaves the group may reach the journal late. The record that forgets the node must
// come after it.
void a_node_is_forgotten_behind_its_last_record() {
  using Names = std::vector<std::string>;
  Node1 n;
  n.serve();
  n.hears("rep_3", 'c', 99);
  CHECK(n.r.record("rep_3", false, n.now));
  Group two = n.group;
  two.members = {"rep_1", "rep_2"};
  n.r.change(two, n.known, 90, {}, n.now);
  CHECK(n.r.to_forget().empty() && !n.r.asks("rep_3") && !n.r.walk("rep_3", 50) && n.r.asks("rep_2"));
  n.r.recorded("rep_3", true, n.now);
  CHECK(n.r.to_forget() == Names{"rep_3"} && !n.r.record("rep_3", true, n.now));
  n.r.forgotten("rep_3");
  CHECK(n.r.to_forget().empty());
  // A node that is in the group again is owed what the journal says. It is not forgotten, even if a record that forgets
  // it was due before.
  n.r.change(n.group, n.known, 90, {}, n.now);
  n.r.change(two, n.known, 90, {}, n.now), n.r.change(n.group, n.known, 90, {}, n.now);
  CHECK(n.r.to_forget().empty() && n.r.walk("rep_3", 50)->upto() == 10);
  // The same if the journal got the record that forgets the node just before the node joined again.
  n.known["rep_3"] = {{}, nothing_owed, 0, {n.store('3')}};
  CHECK(n.r.change(n.group, n.known, 90, {}, n.now).returned == Names{"rep_3"});
  const auto said = n.r.record("rep_3", false, n.now);
  CHECK(said && said->position == 0 && said->since == 90 && n.r.walk("rep_3", 50)->upto() == 0);
}

// A node that does not answer is still asked, but nothing is sent to it until it answers. This is logged once.
void a_node_is_up_while_it_answers_with_room() {
  using Names = std::vector<std::string>;
  Node1 n;
  CHECK((n.r.up() == Names{"rep_2", "rep_3"}) && !n.r.asks("rep_2"));  // nothing is known yet
  n.r.failed("rep_2", "cannot reach rep_2", n.now);
  CHECK(n.lines() == "cannot reach rep_2\n" && n.r.up() == Names{"rep_3"} && n.r.asks("rep_2") && !n.r.asks("rep_3"));
  n.r.failed("rep_2", "cannot reach rep_2", n.now);
  CHECK(n.lines().empty() && n.r.others().up == 1 && n.r.others().identities.size() == 2);
  AskReply full{.end = 7};
  full.room = false;
  CHECK(!n.answers("rep_2", full) && n.r.up() == Names{"rep_3"} && n.lines().empty());
  CHECK(!n.answers("rep_2") && n.lines() == "rep_2 answers again\n" && n.r.up().size() == 2);
  // A stranger may choose the text of an error: it is logged a few times at once, then once a minute.
  std::string sent;
  for (int n_th = 0; n_th < 600; ++n_th) {
    n.r.failed("rep_2", "it says " + std::to_string(n_th), n.now);
    sent += n.lines();
    n.now.boot += Millis(1000);
  }
  CHECK(sent.starts_with("it says 0\nit says 1\nit says ") && std::count(sent.begin(), sent.end(), '\n') <= 12);
  n.r.failed("rep_3", "another", n.now);
  CHECK(n.lines() == "another\n");
  CHECK(!n.answers("rep_2") && !n.answers("rep_3"));
  static_cast<void>(n.lines());
  // Only the serving process sends what is owed, and only after the node has answered that process.
  CHECK(!n.r.pays("rep_2"));
  n.serve();
  CHECK(n.r.pays("rep_2") == false && n.r.asks("rep_2") && !n.r.have_all(10));
  CHECK(!n.answers("rep_2") && n.r.pays("rep_2") && n.r.is_reached("rep_2") && !n.r.is_reached("rep_3"));
}

// A walk is valid only for the identity for which it began. The position of the node advances after the walk, and is
// recorded once a second.
void a_walk_is_for_one_identity() {
  Node1 n;
  n.serve();
  CHECK(!n.answers("rep_2") && !n.answers("rep_3"));
  auto see = [&](Walk& walk, Lsn at, const std::string& from) {
    event::Add add{.id = n.store('A'), .node = from, .store = n.store(from[4])};
    walk.see(add, {}, at, at + 5, "record", [&](auto& node, auto& its) { return n.r.is_mine_to_send(node, its); });
  };
  auto walk = n.r.walk("rep_2", 15);
  see(*walk, 10, "rep_1");
  n.hears("rep_2", 'b', 15);
  CHECK(n.r.walked("rep_2", *walk, 15, n.now));  // again, from the beginning
  CHECK(n.recorded("rep_2") == "b 0 15" && n.r.debts_text("rep_2").empty());
  walk = n.r.walk("rep_2", 15);
  CHECK(walk->upto() == 0);
  walk->pass(10), see(*walk, 10, "rep_1");
  CHECK(!n.r.walked("rep_2", *walk, 15, n.now) && n.r.debts_text("rep_2") == n.store('b') + " 15\n");
  n.r.move_on("rep_2", n.now);
  CHECK(n.recorded("rep_2").empty());
  n.to(1), n.r.move_on("rep_2", n.now);
  CHECK(n.recorded("rep_2") == "b 15 15" && n.r.debts_text("rep_2").empty());
  // rep_3 itself sends its records. While rep_3 is gone, this node sends them.
  walk = n.r.walk("rep_2", 20);
  see(*walk, 15, "rep_3");
  CHECK(walk->jobs().empty() && !n.r.walked("rep_2", *walk, 20, n.now) && !n.r.walk("rep_2", 20));
  for (int second = 2; second <= 31; ++second) n.to(second), n.hears("rep_2", 'b');
  n.r.due({}, n.now);
  CHECK(n.lines().find("rep_3 has not answered for 30 s") != std::string::npos);
  walk = n.r.walk("rep_2", 20);
  CHECK(walk->upto() == 15);
  see(*walk, 15, "rep_3");
  CHECK(walk->jobs().size() == 1 && !n.r.walked("rep_2", *walk, 20, n.now));
  n.to(33), n.r.move_on("rep_2", n.now);
  CHECK(n.recorded("rep_2") == "b 20 15" && n.r.sent()[0].upto == 20);
}

// This node has refused an add record of another job with the same ID, and does not send that add record to other
// nodes. It has taken a job of the same size and checksum for the same job, sent again; it does not send the workload
// of that job either.
void a_walk_tells_the_job_that_counts() {
  for (bool once : {true, false})
    for (int other = 0; other < 5; ++other) {  // how the other job differs; 0: there is none
      event::Add add{.id = std::string(ulid_size, 'A'), .node = "rep_1", .store = std::string(ulid_size, '1')};
      add.given = true, add.once = once;
      RecordHead head{};
      gq::Job job;
      job.function = "f", job.size = 3, job.sum = 7, job.once = once, job.first_lsn = 10;
      job.node = add.node, job.store = add.store;
      auto sent = [&](bool is_first_there) {
        Walk walk("rep_1", "rep_2", std::string(ulid_size, '2'), 0, 0, {});
        add.asked.function = "f", head.data_size = 3, head.data_sum = 7;
        if (is_first_there) walk.see(add, head, 10, 20, "its", [](auto&, auto&) { return true; });
        add.asked.function = other == 1 ? "g" : "f";
        head.data_size = other == 2 ? 4 : 3, head.data_sum = other == 3 ? 8 : 7;
        if (other) walk.see(add, head, 20, 30, "another's", [](auto&, auto&) { return true; });
        walk.looked_up(add.id, job);
        return walk.debts().empty() ? std::string() : walk.debts().at(0).add;
      };
      CHECK(sent(true) == (other == 4 ? "" : "its") && (!other || sent(false).empty()));
    }
}

// The blob of a job that every node runs is removed only when the journal says that all nodes know the job.
void a_blob_goes_when_all_are_recorded_to_know_it() {
  Node1 n;
  n.serve();
  event::Add add{.id = n.store('A'), .node = "rep_1", .store = n.store('1')};
  RecordHead head{};
  head.data_size = max_inline_data + 1;
  auto has_sent = [&](const std::string& node) {
    auto walk = n.r.walk(node, 15);
    walk->see(add, head, 10, 15, {}, [](auto&, auto&) { return true; });
    n.r.walked(node, *walk, 15, n.now);
    n.r.move_on(node, n.now);
    CHECK(n.r.record(node, false, n.now)->position == 15);
  };
  using Names = std::vector<std::string>;
  has_sent("rep_2"), has_sent("rep_3");
  CHECK(n.r.recorded("rep_2", true, n.now).empty() && n.r.recorded("rep_3", false, n.now).empty());
  n.to(1);
  CHECK(n.r.record("rep_3", false, n.now) && n.r.recorded("rep_3", true, n.now) == (Names{add.id, add.id}));
}

// A transfer shows that a node lives. The identity in it does not change the known identity of the node.
void a_transfer_is_admitted() {
  Node1 n;
  n.serve();
  Transfer t;
  t.group = "rep_1:once", t.node = "rep_2", t.to = "rep_1", t.store = n.store('2'), t.kind = "ask";
  CHECK(!n.r.admit(t, n.now).refusal && !n.r.admit(t, n.now).again && !n.r.admit(t, n.now).taking);
  t.kind = "give";
  CHECK(n.r.admit(t, n.now).refusal->reason == "it is neither take nor ask");
  t.kind = "take", t.store = n.store('b');
  CHECK(!n.r.admit(t, n.now).refusal && n.r.members().is("rep_2", n.store('2')) && n.recorded("rep_2").empty() &&
        n.lines().find("a transfer from rep_2 has another identity") == 0);
  n.r.came_from("rep_2", t.store, 10, 20);  // this does not count as sent
  auto walk = n.r.walk("rep_2", 20);
  CHECK(walk->skip() == 10);
  n.r.came_from("rep_2", n.store('2'), 10, 20);
  walk = n.r.walk("rep_2", 20);
  CHECK(walk->skip() == 20);
  t.node = "rep_9";
  CHECK(n.r.admit(t, n.now).refusal);
  // With keys each number is accepted once, in a session of this node.
  Replica keyed(n.group, {.session_period = Millis(60'000), .is_signed = true}, n.known, n.now);
  t.node = "rep_2", t.store = n.store('2'), t.session = "theirs", t.number = 1, t.to_session = "unheard";
  CHECK(keyed.admit(t, n.now).again);
  t.to_session = keyed.session(n.now);
  CHECK(!keyed.admit(t, n.now).refusal && keyed.admit(t, n.now).refusal->reason == "it has been here before");
  // A relay passes jobs on as the group would have accepted them.
  AskReply relay{.end = 7};
  relay.relay = true;
  CHECK(!n.answers("rep_3", relay));
  event::Add job{.node = "rep_3", .store = n.store('x'), .copies = 2, .once = true};
  CHECK(!n.r.refuse(job));
  job.copies = 4;
  CHECK(n.r.refuse(job));
}

// Makes rep_1 serve and return, and returns held jobs of rep_3 whose function rep_1 runs.
HeldHere holds_of_rep_3(Node1& n) {
  n.serve();
  CHECK(!n.answers("rep_2") && !n.answers("rep_3"));
  n.r.standby(true, n.now);
  CHECK(n.r.end_return(n.r.round(), n.now));
  HeldHere held;
  held.runs = {true, false, {"f"}}, held.functions = {"f"}, held.nodes = {"rep_3"};
  return held;
}

// Two threads find the same node gone and take over its jobs. If that node has returned, it is told so. A node that was
// itself away takes over nothing.
void only_a_node_that_was_there_takes_jobs() {
  Node1 n;
  const HeldHere held = holds_of_rep_3(n);
  for (int second = 1; second <= 31; ++second) n.to(second), n.answers("rep_2", {.end = 7, .runner = true});
  auto due = n.r.due(held, n.now);
  CHECK(!due.empty() && due[0].node == "rep_3" && due[0].cause == Takeover::Cause::gone);
  HeldJob job{n.store('A'), {}};
  job.job.function = "f", job.job.node = "rep_3", job.job.store = n.store('3');
  Transfer t;
  t.group = "rep_1:once", t.node = "rep_3", t.to = "rep_1", t.store = n.store('3'), t.kind = "ask";
  auto take = [&](const Takeover& what) {
    Inquiry inquiry(what, held.runs, {job});
    return n.r.take(inquiry, n.now);
  };
  auto effect = take(due[0]);
  CHECK(effect && n.r.admit(t, n.now).taking);
  n.r.taken();
  CHECK(!n.r.admit(t, n.now).taking && !take(due[0]));  // rep_3 has asked, so it is back
  n.now = n.at(90), n.lines();
  CHECK(!take(due[0]) && n.lines().find("this node was stopped for 59 s") == 0);
}

// If nodes disagree on a job, this node sends its state to all nodes at most once in ten minutes, because the nodes
// need time to receive it.
void differences_are_sent_at_intervals() {
  Node1 n;
  const HeldHere held = holds_of_rep_3(n);
  HeldJob job{n.store('A'), {}};
  job.job.function = "f", job.job.node = "rep_3", job.job.store = n.store('3');
  // rep_3 does not run the jobs.
  auto times_sent = [&](int until, bool has_ended) {
    int times = 0;
    for (int second = static_cast<int>(n.now.boot.count() / 1000) + 1; second <= until; ++second) {
      n.to(second), n.answers("rep_2", {.end = 7, .runner = true}), n.answers("rep_3");
      for (const auto& what : n.r.due(held, n.now)) {
        if (what.node != "rep_3") continue;
        Inquiry inquiry(what, held.runs, {job});
        AskReply reply{.end = 7};
        reply.known = {true};
        if (has_ended) reply.ended = {job.id};
        if (n.r.next_question(inquiry, Millis(0), n.now)) times += !n.r.answered(inquiry, reply, n.now).empty();
      }
    }
    return times;
  };
  CHECK(times_sent(100, false) == 0);
  CHECK(times_sent(600, true) == 1 && times_sent(720, true) == 1 && times_sent(1290, true) == 0);
}

}  // namespace

void test_replication() {
  an_inquiry_asks_one_node_after_the_other();
  a_lease_follows_the_return();
  a_node_is_recorded_when_it_is_met();
  a_node_is_forgotten_behind_its_last_record();
  a_node_is_up_while_it_answers_with_room();
  a_walk_is_for_one_identity();
  a_transfer_is_admitted();
  a_walk_tells_the_job_that_counts();
  a_blob_goes_when_all_are_recorded_to_know_it();
  only_a_node_that_was_there_takes_jobs();
  takeovers_are_due_when_an_owner_fails();
  jobs_are_left_to_the_node_that_comes_first();
  old_unknown_jobs_are_stale();
  nodes_agree_on_the_owner_of_a_job();
  an_older_state_is_answered_with_the_newer_one();
  a_job_that_ended_elsewhere_is_left_alone();
  another_job_with_its_id_says_nothing_of_a_job();
  differences_are_sent_at_intervals();
  records_of_absent_nodes_are_passed_on();
  a_takeover_is_sent_before_it_is_written();
  who_may_speak_for_a_name();
  a_transfer_is_for_this_node_from_its_group();
  a_group_changes();
  a_silent_node_is_gone_until_it_answers();
  a_node_returns_when_the_others_have_sent_it_all();
  a_node_that_was_stopped_returns();
  a_node_that_answers_late_tells_what_it_knows();
  a_node_still_has_to_tell_the_rest();
  a_node_that_hears_nobody_waits_longer();
  changes_of_a_store_are_rate_limited();
  nodes_that_return_wait_for_the_others();
  questions_are_answered();
  ends_are_asked_for_less_and_less_often();
  a_silent_store_is_followed_by_the_next_one();
  questions_of_clients_are_answered();
}

// gq-bench runs the loads and baselines that scripts/bench compares, and prints how many seconds a load took. For the
// tests, it also makes records that no program of gq makes.
//
//   raw DIR JOBS SIZE GROUP      bare append + fdatasync of groups
//   store DIR JOBS SIZE GROUP    the same jobs through Queue::add
//   table DIR KEYS               a bare Tokyo Cabinet B+ tree: KEYS puts in order
//   replicated DIR HOST PORT JOBS SIZE   jobs one after the other, stored in DIR and replicated to its group
//   sink HOST PORT FUNCTION      a worker that accepts all jobs and does nothing, until it is killed
//   synced DIR HOST PORT FUNCTION JOBS SIZE   JOBS times an empty foreground job, then SIZE bytes + fdatasync
//   submit HOST PORT FUNCTION JOBS SIZE IN_FLIGHT fg|bg   a plain libgearman client
//   record FILE|DIR FUNCTION [MEMBER=VALUE...]   an add record with these members, in a file, or queued in a store
#include <fcntl.h>
#include <libgearman/gearman.h>
#include <tcbdb.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "gq/base/fd.hpp"
#include "gq/base/ulid.hpp"
#include "gq/database/open_store.hpp"
#include "gq/gearman/packets.hpp"
#include "gq/replication/replicator.hpp"
#include "hostile.hpp"

namespace {

double seconds(const std::function<void()>& work) {
  auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void raw(const std::string& dir, int jobs, int size, int group) {
  gq::Fd fd = gq::open_file(dir + "/raw", O_WRONLY | O_CREAT | O_APPEND);
  std::string block(static_cast<size_t>(size * group), 'x');
  for (int n = 0; n < jobs; n += group) {
    gq::write_all(fd.get(), block, "raw");
    if (fdatasync(fd.get()) != 0) abort();
  }
}

// Creates the jobs before the clock starts, because this is the client's work.
double store(const std::string& dir, int jobs, int size, int group) {
  gq::Queue s = gq::open_store(dir + "/store", true);
  std::string data(static_cast<size_t>(size), 'x');
  std::vector<std::vector<gq::NewJob>> groups(static_cast<size_t>(jobs / group));
  for (auto& g : groups)
    for (int i = 0; i < group; ++i) g.push_back(gq::make_job({"bench"}, data));
  return seconds([&] {
    for (const auto& g : groups)
      for (const auto& a : s.add(g))
        if (a.outcome != gq::Outcome::queued) abort();
  });
}

void table(const std::string& dir, int keys) {
  TCBDB* db = tcbdbnew();
  if (!tcbdbopen(db, (dir + "/bare.tcb").c_str(), BDBOWRITER | BDBOCREAT | BDBOTRUNC)) abort();
  std::string value(100, 'x');
  for (int n = 0; n < keys; ++n) {
    char key[32];
    int size = snprintf(key, sizeof key, "j%026d", n);
    if (!tcbdbput(db, key, size, value.data(), static_cast<int>(value.size()))) abort();
  }
  tcbdbclose(db);
  tcbdbdel(db);
}

void submit(const char* host, int port, const char* function, int jobs, int size, int in_flight, bool background) {
  gearman_client_st* client = gearman_client_create(nullptr);
  gearman_client_add_server(client, host, static_cast<in_port_t>(port));
  std::string data(static_cast<size_t>(size), 'x');
  for (int n = 0; n < jobs; n += in_flight) {
    std::vector<std::string> uniques;
    for (int i = 0; i < in_flight; ++i) uniques.push_back(gq::new_ulid());
    gearman_return_t rc = GEARMAN_SUCCESS;
    for (auto& u : uniques) {
      if (background)
        gearman_client_add_task_background(client, nullptr, nullptr, function, u.c_str(), size ? data.data() : nullptr,
                                           data.size(), &rc);
      else
        gearman_client_add_task(client, nullptr, nullptr, function, u.c_str(), size ? data.data() : nullptr,
                                data.size(), &rc);
      if (gearman_failed(rc)) abort();
    }
    if (gearman_failed(gearman_client_run_tasks(client))) abort();
    gearman_client_task_free_all(client);
  }
  gearman_client_free(client);
}

// Does both in turn in each round, because a disk is idle while a program waits for the network; separate measurements
// would not show that.
void synced(const std::string& dir, const char* host, int port, const char* function, int jobs, int size) {
  gq::Fd fd = gq::open_file(dir + "/raw", O_WRONLY | O_CREAT | O_APPEND);
  std::string block(static_cast<size_t>(size), 'x');
  gearman_client_st* client = gearman_client_create(nullptr);
  gearman_client_add_server(client, host, static_cast<in_port_t>(port));
  for (int n = 0; n < jobs; ++n) {
    size_t answer_size = 0;
    gearman_return_t rc = GEARMAN_SUCCESS;
    free(gearman_client_do(client, function, gq::new_ulid().c_str(), nullptr, 0, &answer_size, &rc));
    if (gearman_failed(rc)) abort();
    gq::write_all(fd.get(), block, "raw");
    if (fdatasync(fd.get()) != 0) abort();
  }
  gearman_client_free(client);
}

double replicated(const std::string& dir, const char* host, int port, int jobs, int size) {
  gq::Queue s = gq::open_store(dir, false);
  gq::Replicator::Config config;
  config.servers = {{host, static_cast<uint16_t>(port)}};
  gq::Replicator replicator(s, config);
  std::string data(static_cast<size_t>(size), 'x');
  auto add = [&] {
    if (replicator.add({gq::make_job({"bench"}, data)}).front().outcome != gq::Outcome::queued) abort();
  };
  add();  // this connects
  return seconds([&] {
    for (int n = 0; n < jobs; ++n) add();
  });
}

void* swallow(gearman_job_st*, void*, size_t* size, gearman_return_t* rc) {
  *size = 0;
  *rc = GEARMAN_SUCCESS;
  return nullptr;
}

// A worker needs a judge that accepts the jobs.
void sink(const char* host, int port, const char* function) {
  gq::judge_jobs([](const gq::AssignedJob&) { return std::optional<std::string>(); });
  gearman_worker_st* worker = gearman_worker_create(nullptr);
  gearman_worker_add_server(worker, host, static_cast<in_port_t>(port));
  gearman_worker_add_function(worker, function, 0, swallow, nullptr);
  while (gearman_worker_work(worker) == GEARMAN_SUCCESS) continue;
}

// MEMBER is why (VALUE is its size in bytes), all (every key that exists), node, key, at, due, window or max.
void record(const std::string& to, const std::string& function, const std::vector<std::string>& says) {
  WithEveryKey<gq::event::Add> every{
      .said = {.id = gq::new_ulid(), .at = gq::now_ms(), .asked = {.function = function}}, .why = {}};
  gq::NewJob job;
  gq::event::Add& add = every.said;
  bool all = false;
  for (const auto& said : says) {
    const std::string member = said.substr(0, said.find('=')), value = said.substr(said.find('=') + 1);
    all = all || member == "all" || member == "why";
    if (member == "why") every.why.assign(std::stoul(value), 'y');
    if (member == "node") add.node = value, add.store = gq::new_ulid(), add.once = true, add.copies = 9;
    if (member == "key") add.asked.key = value;
    if (member == "at") add.at = gq::Millis(std::stoll(value));
    if (member == "due") add.asked.due = gq::Millis(std::stoll(value));
    if (member == "window") add.asked.window = gq::Millis(std::stoll(value));
    if (member == "max") add.asked.max_attempts = static_cast<uint32_t>(std::stoul(value));
    if (member == "all") add.asked.serial = "x", add.given = true;
  }
  job.add = add;
  job.data = "x";
  job.data_sum = gq::sum64(job.data);
  job.head = all ? gq::encode_record_head(every, 1, job.data_sum) : gq::encode_record_head(add, 1, job.data_sum);
  if (gq::file_exists(to + "/gq.json")) {
    gq::Queue s = gq::open_store(to, false);
    if (s.add({job}).front().outcome != gq::Outcome::queued) abort();
  } else {
    gq::write_all(gq::open_file(to, O_WRONLY | O_CREAT | O_APPEND).get(), job.head + std::string(job.data), to);
  }
  puts(add.id.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  auto number = [&](int i) { return i < argc ? atoi(argv[i]) : 0; };
  std::string what = argc > 2 ? argv[1] : "";
  if (what == "record" && argc >= 4) {
    record(argv[2], argv[3], {argv + 4, argv + argc});
    return 0;
  }
  double took;
  if (what == "raw") took = seconds([&] { raw(argv[2], number(3), number(4), number(5)); });
  else if (what == "store") took = store(argv[2], number(3), number(4), number(5));
  else if (what == "table") took = seconds([&] { table(argv[2], number(3)); });
  else if (what == "synced" && argc == 8)
    took = seconds([&] { synced(argv[2], argv[3], number(4), argv[5], number(6), number(7)); });
  else if (what == "replicated") took = replicated(argv[2], argv[3], number(4), number(5), number(6));
  else if (what == "sink") took = seconds([&] { sink(argv[2], number(3), argv[4]); });
  else if (what == "submit" && argc == 9)
    took =
        seconds([&] { submit(argv[2], number(3), argv[4], number(5), number(6), number(7), !strcmp(argv[8], "bg")); });
  else return 64;
  printf("%.6f\n", took);
  return 0;
}

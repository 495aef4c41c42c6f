// Receivers: threads that take jobs from gearmand and answer each with what a service says.
//
// Each is a thread with a libgearman handle of its own for one server. One is added when all have a job and the last to get one
// found several waiting; those end that are more than have had a job at once in the last second. So one fdatasync serves many, and
// gearmand, which wakes all that sleep for each job, wakes few in vain. A server that is down holds nothing up.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "clock.hpp"
#include "gearman.hpp"

namespace gq {

struct Service {
  std::string function;  // as gearmand knows it
  bool background;       // whether clients send background jobs, which gearmand deletes when they are refused
  // The answer to a job; nullopt where it has to stay with gearmand. Called by several threads.
  std::function<std::optional<std::string>(std::string_view payload)> take;
};

class Receivers {
 public:
  enum class Serve { nothing, foreground, all };

  // `wanted` says which services are served at this moment; asked about once a second.
  Receivers(std::vector<Server> servers, std::vector<Service> services, std::function<Serve()> wanted);
  ~Receivers();  // stop()

  void start();
  // Takes no more; what has been taken is answered. Returns when all threads are gone.
  void stop();

 private:
  struct Group;     // the receivers of one server
  struct Function;  // what libgearman's callback is given
  struct Receiver;
  class Busy;

  using Clock = std::chrono::steady_clock;

  void add_receiver(Group& group);
  void end_idle(Group& group);
  void receive(Receiver& self);
  // Throws Error(config) where libgearman's calls cannot be checked (packets.hpp).
  bool pause(Millis duration);
  static void* on_job(gearman_job_st* job, void* context, size_t* result_size, gearman_return_t* rc) noexcept;

  const std::vector<Service> m_services;
  const std::function<Serve()> m_wanted;
  std::list<Group> m_groups;
  std::mutex m_mutex;
  std::condition_variable m_stopping;
  bool m_stop = false;
  std::list<Receiver> m_receivers;
};

}  // namespace gq

#include "gq/work/slot.hpp"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "gq/base/log.hpp"
#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr size_t stream_bytes = 1 << 20;

// Returns the command with its environment: for one job, or, if it is streamed, for all jobs that it will get.
Command command_for(const Slot::Setup& setup, const Claim& claim, const std::string& path) {
  Command command;
  command.argv = setup.command;
  const Job& job = claim.job;
  command.environment = {{"GQ_STORE", setup.store}, {"GQ_CRASHES", std::to_string(job.crashes)}};
  command.unset = {"GQ_JOB_ID", "GQ_FUNCTION",  "GQ_ATTEMPT",       "GQ_MAX_ATTEMPTS",    "GQ_ENQUEUED_AT",
                   "GQ_KEY",    "GQ_PRIORITY",  "GQ_WORKLOAD_FILE", "GQ_WORKLOAD_OFFSET", "GQ_WORKLOAD_LENGTH",
                   "GQ_NAME",   "NOTIFY_SOCKET"};
  if (setup.stream) return command;
  command.environment.insert(command.environment.end(), {{"GQ_JOB_ID", claim.id},
                                                         {"GQ_FUNCTION", job.function},
                                                         {"GQ_ATTEMPT", std::to_string(job.failures + 1)},
                                                         {"GQ_MAX_ATTEMPTS", std::to_string(setup.rules.attempts(job))},
                                                         {"GQ_ENQUEUED_AT", format_time(job.enqueued_at)},
                                                         {"GQ_PRIORITY", priority_name(job.priority)},
                                                         {"GQ_WORKLOAD_LENGTH", std::to_string(job.size)}});
  if (!job.key.empty()) command.environment.emplace_back("GQ_KEY", job.key);
  if (!job.name.empty()) command.environment.emplace_back("GQ_NAME", job.name);
  if (!path.empty()) {
    command.environment.emplace_back("GQ_WORKLOAD_FILE", path);
    command.environment.emplace_back("GQ_WORKLOAD_OFFSET", std::to_string(job.offset));
  }
  return command;
}

}  // namespace

void Slot::add_ids(std::set<std::string>& ids) const {
  for (const auto& job : m_jobs) ids.insert(job.claim.id);
}

size_t Slot::room() const {
  if (!m_stream) return is_running() ? 0 : 1;
  return m_limit.is_reached() || m_stream->pending() > stream_bytes ? 0 : m_stream->dialogue().room(Clock::now());
}

std::optional<Slot::Failed> Slot::give(Start start, Clock::time_point now) {
  if (m_jobs.empty()) m_limit.works(now);
  m_jobs.push_back({std::move(start.claim), now, now_ms()});
  const Claim& claim = m_jobs.back().claim;
  if (start.output) m_output = std::move(start.output);
  if (!is_running()) {
    if (std::string why = run(claim, start.workload.path, start.input.get()); !why.empty()) {
      if (m_output) m_output->discard();
      m_output.reset();
      m_stream.reset();
      Failed failed{std::move(m_jobs.back().claim), std::move(why)};
      m_jobs.clear();
      return failed;
    }
  }
  if (m_stream) {
    m_stream->send(claim, claim.job.failures + 1, std::move(start.workload));
    if (claim.job.crashes > 0) m_stream->close();
  }
  return std::nullopt;
}

// Starts the command for one job, or for all jobs of a stream. Returns the reason if that fails, otherwise an empty
// string.
std::string Slot::run(const Claim& claim, const std::string& path, int input) {
  Command command = command_for(*m_setup, claim, path);
  command.input = input;
  command.keep_open = m_owner.lock.get();
  try {
    if (m_setup->stream) {
      m_stream = std::make_unique<Stream>();
      command.input = m_stream->command_input();
      m_output = std::make_unique<Output>(m_setup->output, "");
    }
    command.output = m_stream ? m_stream->command_output() : m_output->out_end();
    m_prints = command.output < 0 && m_standard_output->look() != Printed::nowhere;
    if (command.output < 0 && !m_prints) command.output = m_standard_output->nowhere();
    command.error = m_output->error_end();
    const pid_t pid = spawn(command);
    if (pid <= 0) return errno_text(-pid);
    m_pid = pid;
  } catch (const Error& e) {
    return e.what();
  }
  m_output->close_ends();
  if (m_stream) m_stream->close_ends();
  m_limit = CommandLimit(m_setup->time_limit, m_setup->grace);
  m_limit.works(Clock::now());
  m_owners->started(m_owner, m_pid);
  return {};
}

Slot::Ended Slot::ended(Running job, AttemptEnd end) const {
  const auto since = std::max(job.started, m_answered);
  return {std::move(job.claim), std::move(end), job.started_at,
          std::chrono::duration<double, std::milli>(Clock::now() - since).count(),
          m_output && !m_stream ? m_output->bytes() : 0};
}

Slot::Running Slot::take(const std::string& id) {
  auto it = std::find_if(m_jobs.begin(), m_jobs.end(), [&](const Running& job) { return job.claim.id == id; });
  Running job = std::move(*it);
  m_jobs.erase(it);
  return job;
}

std::string Slot::current() const {
  if (m_stream) return m_stream->dialogue().current();
  return m_jobs.empty() ? std::string() : m_jobs.front().claim.id;
}

std::vector<Slot::Ended> Slot::answers() {
  std::vector<Ended> all;
  if (!m_stream) return all;
  for (auto& answer : m_stream->pump()) {
    all.push_back(ended(take(answer.id),
                        {.of = AttemptEnd::Of::answer, .exit = answer.status, .said = std::move(answer.reason)}));
    m_answered = Clock::now();
    if (!m_jobs.empty()) m_limit.works(m_answered);
    else if (is_closing()) m_limit.should_end(m_answered);
    else m_limit.idles();
  }
  if (m_stream->dialogue().failure()) send(SIGKILL);
  return all;
}

std::optional<Slot::End> Slot::reap(bool cut_off) {
  if (m_pid == 0) return std::nullopt;
  siginfo_t info{};
  if (::waitid(P_PID, static_cast<id_t>(m_pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != m_pid)
    return std::nullopt;
  m_has_ended = true;
  // What it printed is read, and has reached standard output, before its end counts.
  if (m_output && (m_output->capture() || m_output->is_passed_on())) {
    if (cut_off) m_output->stop_passing();
    m_output->pump();
    if (m_output->is_blocked()) return std::nullopt;
  }
  // The kernel does not reuse the number of the process group before the process is reaped.
  if (m_limit.is_reached() || cut_off) ::kill(-m_pid, SIGKILL);
  int status = 0;
  if (::waitpid(m_pid, &status, 0) != m_pid) return std::nullopt;
  m_pid = 0;
  m_has_ended = false;
  End result;
  if (m_output) m_output->pump();
  result.ended = answers();
  result.owner = std::exchange(m_owner, {});
  if (const std::string id = current(); !id.empty()) {
    AttemptEnd end{.of = m_stream ? AttemptEnd::Of::stream : AttemptEnd::Of::command};
    if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
    else end.exit = WEXITSTATUS(status);
    if (m_output) end.said = m_output->tail();
    end.at_limit = m_limit.is_reached();
    end.cancelled = m_cancelled == id;
    end.cut_off = cut_off;
    end.unsent = m_stream ? m_stream->dialogue().failure() : 0;
    end.prints = m_prints;
    Running job = take(id);
    if (m_output && m_output->capture())
      end.output = m_output->capture()->kept_within(output_limit(job.claim.job, m_setup->rules));
    result.ended.push_back(ended(std::move(job), std::move(end)));
  }
  for (auto& job : m_jobs) result.unbegun.push_back(std::move(job.claim));
  m_jobs.clear();
  m_stream.reset();
  result.output = std::move(m_output);
  m_limit = CommandLimit(m_setup->time_limit, m_setup->grace);
  m_cancelled.clear();
  m_refuses = false;
  return result;
}

void Slot::close(Clock::time_point now) {
  m_stream->close();
  m_limit.should_end(now);
}

void Slot::close_for_stop() {
  m_stream->close();
  m_limit.idles();
}

void Slot::cancel(const std::string& id, Clock::time_point now) {
  if (!is_running() || current() != id || std::exchange(m_cancelled, id) == id) return;
  m_limit.cancel(now);
  enforce_limit(now);
}

void Slot::enforce_limit(Clock::time_point now) {
  if (m_pid == 0 || m_has_ended) return;
  if (const int signal = m_limit.next(now)) send(signal);
}

void Slot::send(int signal) {
  if (m_pid == 0 || ::kill(-m_pid, signal) == 0 || errno != EPERM || std::exchange(m_refuses, true)) return;
  const std::string id = current();
  log(Level::error, "cannot stop process " + std::to_string(m_pid) + (id.empty() ? "" : ", which runs " + id) + ": " +
                        errno_text(EPERM));
}

void Slot::watch(std::vector<pollfd>& fds) const {
  auto add = [&](int fd, short events) {
    if (fd >= 0) fds.push_back({fd, events, 0});
  };
  if (m_output) {
    add(m_output->out(), POLLIN);
    add(m_output->error(), POLLIN);
  }
  if (m_stream) {
    add(m_stream->input(), POLLOUT);
    add(m_stream->output(), POLLIN);
  }
}

void Slot::pump() {
  if (m_output) m_output->pump();
}

}  // namespace gq

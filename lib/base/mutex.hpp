// A mutex between the threads of a process, and the words that say what it guards. clang checks them (-Wthread-safety);
// a developer build refuses a member that is used without its mutex. Other compilers do not see them.
//
//   GUARDED_BY(m)      behind a member: it is used only while m is held
//   PT_GUARDED_BY(m)   the same for what a pointer points to
//   REQUIRES(m)        behind a function: its caller holds m
//   EXCLUDES(m)        behind a function: its caller does not hold m
//
// A lambda is a function of its own, so one that runs under a mutex says so: [&]() REQUIRES(m_mutex) { ... }.
//
// Processes exclude each other by locks on files (gq/base/fd.hpp).
#pragma once

#include <mutex>

#ifdef __clang__
#define GQ_THREAD_SAFETY(attribute) __attribute__((attribute))
#else
#define GQ_THREAD_SAFETY(attribute)
#endif
#define GUARDED_BY(mutex) GQ_THREAD_SAFETY(guarded_by(mutex))
#define PT_GUARDED_BY(mutex) GQ_THREAD_SAFETY(pt_guarded_by(mutex))
#define REQUIRES(...) GQ_THREAD_SAFETY(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) GQ_THREAD_SAFETY(locks_excluded(__VA_ARGS__))
// The function is not checked. A comment at each use says why.
#define NO_THREAD_SAFETY_ANALYSIS GQ_THREAD_SAFETY(no_thread_safety_analysis)

namespace gq {

class GQ_THREAD_SAFETY(capability("mutex")) Mutex {
 public:
  void lock() GQ_THREAD_SAFETY(acquire_capability()) { m_mutex.lock(); }
  void unlock() GQ_THREAD_SAFETY(release_capability()) { m_mutex.unlock(); }

 private:
  friend class MutexLock;
  std::mutex m_mutex;
};

// Holds a mutex while it exists, but for the time between unlock() and lock().
class GQ_THREAD_SAFETY(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) GQ_THREAD_SAFETY(acquire_capability(mutex)) : m_lock(mutex.m_mutex) {}
  ~MutexLock() GQ_THREAD_SAFETY(release_capability()) {}
  void unlock() GQ_THREAD_SAFETY(release_capability()) { m_lock.unlock(); }
  void lock() GQ_THREAD_SAFETY(acquire_capability()) { m_lock.lock(); }
  // For std::condition_variable.
  operator std::unique_lock<std::mutex>&() { return m_lock; }

 private:
  std::unique_lock<std::mutex> m_lock;
};

}  // namespace gq

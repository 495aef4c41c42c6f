// A mutex between the threads of a process, and macros that declare what it guards. clang checks the declarations
// (-Wthread-safety): a developer build does not compile code that uses a guarded member without its mutex. Other
// compilers ignore them.
//
//   GUARDED_BY(m)      after a member: it is used only while m is held
//   PT_GUARDED_BY(m)   after a pointer: what it points to is used only while m is held
//   REQUIRES(m)        after a function: its caller holds m
//   EXCLUDES(m)        after a function: its caller does not hold m
//
// clang checks a lambda as a separate function, so a lambda that runs under a mutex needs its own declaration: [&]()
// REQUIRES(m_mutex) { ... }.
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
// Turns the check off for a function. A comment at each use says why.
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

// Holds a mutex while it exists, except between a call of unlock() and the next call of lock().
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

// A fiber: a function with a stack of its own, which goes on where it was. So processes that take turns within one call
// of the library are played on one thread, in an order that a seed decides.
#pragma once

#include <ucontext.h>

#include <functional>
#include <memory>

namespace simulate {

class Fiber {
 public:
  // `body` must not throw, and has to end before the fiber is destroyed.
  explicit Fiber(std::function<void()> body);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs it until it yields or ends. Not from within a fiber.
  void resume();
  // From within: goes back to whoever resumed it.
  void yield();
  bool has_ended() const { return m_ended; }

 private:
  struct Side;
  static void begin(unsigned high, unsigned low);

  const std::function<void()> m_body;
  std::unique_ptr<char[]> m_stack;
  std::unique_ptr<Side> m_inside, m_outside;
  bool m_ended = false;
};

}  // namespace simulate

// A fiber is a function with its own stack, which can stop at any point and later continue there. With fibers, one
// thread simulates several processes, switches between them even in the middle of a call of the library, and lets a
// seed decide the order.
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

  // Runs the fiber until it yields or ends. Must not be called from within a fiber.
  void resume();
  // Called from within the fiber: returns to the caller of resume().
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

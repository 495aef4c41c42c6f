#include "fiber.hpp"

#include <cxxabi.h>

#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__has_feature)
#define GQ_HAS(feature) __has_feature(feature)
#else
#define GQ_HAS(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || GQ_HAS(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#define GQ_ADDRESS 1
#else
#define GQ_ADDRESS 0
#endif
#if defined(__SANITIZE_THREAD__) || GQ_HAS(thread_sanitizer)
#include <sanitizer/tsan_interface.h>
#define GQ_THREAD 1
#else
#define GQ_THREAD 0
#endif

namespace simulate {
namespace {

constexpr size_t stack_size = 512 << 10;

// Stacks are reused, because the first use of a new stack is the most expensive part.
std::vector<std::unique_ptr<char[]>>& free_stacks() {
  static std::vector<std::unique_ptr<char[]>> all;
  return all;
}

// The exceptions that are being handled. The C++ runtime keeps them for each thread, but each fiber has its own.
struct Handling {
  void* caught = nullptr;
  unsigned uncaught = 0;
};

}  // namespace

// One of the two contexts between which a fiber switches: the fiber itself, or the code that resumes it.
struct Fiber::Side {
  ucontext_t context;
  Handling handling;
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;
  void* thread = nullptr;

  // Switches from this side to the other. If `back` is false, no switch back to this side will follow.
  void switch_to(Side& other, bool back) {
    void* globals = abi::__cxa_get_globals();
    std::memcpy(&handling, globals, sizeof handling);
    std::memcpy(globals, &other.handling, sizeof handling);
#if GQ_ADDRESS
    __sanitizer_start_switch_fiber(back ? &fake_stack : nullptr, other.bottom, other.size);
#endif
#if GQ_THREAD
    __tsan_switch_to_fiber(other.thread, 0);
#endif
    if (back) ::swapcontext(&context, &other.context);
    else ::setcontext(&other.context);
    arrive(other);
  }
  // Called on this side after a switch from the other.
  void arrive([[maybe_unused]] Side& other) {
#if GQ_ADDRESS
    __sanitizer_finish_switch_fiber(fake_stack, &other.bottom, &other.size);
#endif
  }
};

Fiber::Fiber(std::function<void()> body)
    : m_body(std::move(body)), m_inside(std::make_unique<Side>()), m_outside(std::make_unique<Side>()) {
  if (free_stacks().empty()) {
    m_stack.reset(new char[stack_size]);
  } else {
    m_stack = std::move(free_stacks().back());
    free_stacks().pop_back();
  }
  m_inside->bottom = m_stack.get();
  m_inside->size = stack_size;
#if GQ_THREAD
  m_inside->thread = __tsan_create_fiber(0);
  m_outside->thread = __tsan_get_current_fiber();
#endif
  ::getcontext(&m_inside->context);
  m_inside->context.uc_stack.ss_sp = m_stack.get();
  m_inside->context.uc_stack.ss_size = stack_size;
  m_inside->context.uc_link = nullptr;
  const auto self = reinterpret_cast<uintptr_t>(this);
  ::makecontext(&m_inside->context, reinterpret_cast<void (*)()>(&Fiber::begin), 2, static_cast<unsigned>(self >> 32),
                static_cast<unsigned>(self));
}

Fiber::~Fiber() {
#if GQ_THREAD
  __tsan_destroy_fiber(m_inside->thread);
#endif
  free_stacks().push_back(std::move(m_stack));
}

void Fiber::begin(unsigned high, unsigned low) {
  auto* self = reinterpret_cast<Fiber*>(static_cast<uintptr_t>(high) << 32 | low);
  self->m_inside->arrive(*self->m_outside);
  self->m_body();
  self->m_ended = true;
  self->m_inside->switch_to(*self->m_outside, false);
}

void Fiber::resume() { m_outside->switch_to(*m_inside, true); }

void Fiber::yield() { m_inside->switch_to(*m_outside, true); }

}  // namespace simulate

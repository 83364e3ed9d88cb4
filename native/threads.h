// The pool. Work items last microseconds, so idle workers spin for a moment before they sleep.
#pragma once
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>

namespace sparl {

void set_threads(uint32_t count); // the caller included; at least 1
uint32_t threads();

using Task = void (*)(const void* context, uint32_t item) noexcept;
void run_items(uint32_t count, Task task, const void* context);

// Calls body(item) for every item in [0, count), in any order on any thread, and returns when
// all are done. Items must not depend on each other; then results do not depend on the number
// of threads. A call from a second thread at the same time runs its items itself. Throws what the
// first item threw that did, when all are done.
template <class Body>
void parallel_for(uint32_t count, const Body& body) {
  struct Context {
    const Body& body;
    mutable std::atomic<bool> failed{false};
    mutable std::exception_ptr error{};
  } const context{body};
  run_items(
      count,
      [](const void* given, uint32_t item) noexcept {
        const auto& own = *static_cast<const Context*>(given);
        try {
          own.body(item);
        } catch (...) {
          if (!own.failed.exchange(true)) own.error = std::current_exception();
        }
      },
      &context);
  if (context.error) std::rethrow_exception(context.error);
}

// Items that are done beside what the caller goes on to do: from the last one on by threads that
// have nothing else to do, the rest from the first one on by finish(). With one thread all at once.
class Later {
 public:
  Later(uint32_t count, std::function<void(uint32_t)> body); // which must not throw
  Later(Later&&) = default;
  Later& operator=(Later&&) = delete;
  ~Later() { finish(); }
  void finish(); // returns when all are done; any thread may ask

  struct Items;

 private:
  std::shared_ptr<Items> items_; // null once moved from
};

} // namespace sparl

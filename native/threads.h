// The pool. Work items last microseconds, so idle workers spin for a moment before they sleep.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

namespace sparl {

void set_threads(uint32_t count); // the caller included; at least 1
uint32_t threads();

using Task = void (*)(const void* context, uint32_t item) noexcept;
void run_items(uint32_t count, Task task, const void* context);

// Calls body(item) for every item in [0, count), in any order on any thread, and returns when
// all are done. Items must not depend on each other; then results do not depend on the number
// of threads. A call from a second thread at the same time runs its items itself.
template <class Body>
void parallel_for(uint32_t count, const Body& body) {
  run_items(
      count,
      [](const void* context, uint32_t item) noexcept {
        (*static_cast<const Body*>(context))(item);
      },
      &body);
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

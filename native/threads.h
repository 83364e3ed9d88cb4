// The pool. Work items last microseconds, so idle workers spin for a moment before they sleep.
#pragma once
#include <cstdint>

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

} // namespace sparl

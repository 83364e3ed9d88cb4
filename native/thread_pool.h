// A pool of threads that is passed to the code that computes. Work items last microseconds, so idle
// workers spin for a moment before they sleep.
#pragma once
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>

namespace sparl {

class Workers;

class ThreadPool {
 public:
  explicit ThreadPool(uint32_t threads); // the caller included; at least 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  uint32_t threads() const { return threads_; }

  // Calls body(item) for every item in [0, count), in any order on any thread, and returns when
  // all are done. Items must not depend on each other; then results do not depend on the number
  // of threads. A call from a second thread at the same time runs its items itself. Rethrows the
  // first exception of an item once all are done.
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

 private:
  friend class PendingWork;
  friend struct AllPools;
  using Task = void (*)(const void* context, uint32_t item) noexcept;
  void run_items(uint32_t count, Task task, const void* context);
  Workers& workers(); // started at their first use, and in the child of a fork once more

  const uint32_t threads_;
  std::atomic<Workers*> workers_{nullptr};
};

// The pool of callers that pass none: of one thread, unless set otherwise.
std::shared_ptr<ThreadPool> default_pool();
void set_default_threads(uint32_t threads);

// Items that may still be computed when the constructor returns: idle workers take them from the
// last one on, finish() from the first one on. With one thread the constructor computes them all.
class PendingWork {
 public:
  PendingWork(ThreadPool&, uint32_t count, std::function<void(uint32_t)> body); // must not throw
  PendingWork(PendingWork&&) = default;
  PendingWork& operator=(PendingWork&&) = delete;
  ~PendingWork() { finish(); }
  void finish(); // returns when all are done; any thread may call it

  struct Items;

 private:
  std::shared_ptr<Items> items_; // null once moved from
};

} // namespace sparl

// A thread pool, passed to the functions that compute. Work items last microseconds, so idle
// workers spin for a while before they sleep.
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
  explicit ThreadPool(uint32_t threads); // including the caller; at least 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  uint32_t threads() const { return threads_; }

  // Calls body(item) for every item in [0, count), in any order on any thread, and returns when all
  // calls have returned. Items must be independent; then results do not depend on the number of
  // threads. If another thread is inside this function, the calling thread computes all of its
  // items itself. Rethrows the first exception of an item after all items.
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
  Workers& workers(); // starts them at the first use, and again in the child of a fork

  const uint32_t threads_;
  std::atomic<Workers*> workers_{nullptr};
};

// The pool used by callers that pass none; it has one thread unless set_default_threads changes it.
std::shared_ptr<ThreadPool> default_pool();
void set_default_threads(uint32_t threads);

// Items that may be unfinished when the constructor returns. Idle workers compute them from the
// last to the first, finish() from the first to the last. With one thread the constructor computes
// all.
class PendingWork {
 public:
  PendingWork(ThreadPool&, uint32_t count, std::function<void(uint32_t)> body); // must not throw
  PendingWork(PendingWork&&) = default;
  PendingWork& operator=(PendingWork&&) = delete;
  ~PendingWork() { finish(); }
  void finish(); // completes all items; any thread may call it

  struct Items;

 private:
  std::shared_ptr<Items> items_; // null once moved from
};

} // namespace sparl

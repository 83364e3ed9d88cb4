// A thread pool, which is passed as an argument to the functions that compute. Work items take
// microseconds, so idle workers spin for a while before they sleep.
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
  explicit ThreadPool(uint32_t threads); // threads includes the caller and is at least 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  uint32_t threads() const { return threads_; }

  // Calls body(item) for every item in [0, count), in any order on any thread, and returns when all
  // calls have returned. Items must be independent, so that results do not depend on the number of
  // threads. If another thread is inside this function, the calling thread computes all of its
  // items itself. If items throw, the first exception is rethrown after all items have ended.
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
  Workers& workers(); // starts the workers at the first use, and again in the child of a fork

  const uint32_t threads_;
  std::atomic<Workers*> workers_{nullptr};
};

// Work items that may be unfinished when the constructor returns. Idle workers compute the items
// from last to first; finish() computes them from first to last. If the pool has one thread, the
// constructor computes all items. If `body` throws, the process ends, because the arrays that it
// writes would remain half updated; the bodies in this library throw only if memory is exhausted.
class PendingWork {
 public:
  PendingWork(ThreadPool&, uint32_t count, std::function<void(uint32_t)> body);
  PendingWork(PendingWork&&) = default;
  PendingWork& operator=(PendingWork&&) = delete;
  ~PendingWork() { finish(); }
  void finish(); // completes all items; any thread may call it

  struct Items;

 private:
  std::shared_ptr<Items> items_; // null after this object has been moved from
};

} // namespace sparl

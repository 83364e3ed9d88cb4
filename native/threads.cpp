#include "threads.h"
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <sched.h>
#include <thread>
#include <vector>

namespace sparl {
namespace {

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int current_cpu() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return 0;
#endif
}

// The items of a job are cut into one range for each thread, which takes from its own first and
// then from the others': neighbouring items, which share data, mostly meet in one core's caches.
// A worker that finds itself on the processor of the job's owner steps aside: schedulers place a
// thread that wakes up near the one that woke it, and then leave both there for milliseconds.
// A job is published by raising the epoch in every range's ticket (epoch << 32 | next item). An
// item is claimed by a compare-and-swap on a ticket. Before the fields of the next job are written
// the tickets are closed, so a claim that succeeds proves that the fields read before it were
// current.
class Pool {
 public:
  explicit Pool(uint32_t workers) : ranges_(workers + 1) {
#if defined(__linux__)
    CPU_ZERO(&allowed_);
    sched_getaffinity(0, sizeof allowed_, &allowed_);
#endif
    try {
      for (uint32_t i = 0; i < workers; i++) threads_.emplace_back([this, i] { work(i + 1); });
    } catch (...) { // no more threads to be had: give back those there are
      join();
      throw;
    }
  }
  ~Pool() { join(); }
  uint32_t size() const { return uint32_t(ranges_.size()); }

  void run(uint32_t count, Task task, const void* context) {
    std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
    if (!owner || threads_.empty() || count < 2) {
      for (uint32_t i = 0; i < count; i++) task(context, i);
      return;
    }
    task_.store(task, std::memory_order_release);
    context_.store(context, std::memory_order_release);
    count_.store(count, std::memory_order_release);
    done_.store(0, std::memory_order_relaxed);
    owner_cpu_.store(current_cpu(), std::memory_order_relaxed);
    const uint64_t epoch = (ranges_[0].ticket.load(std::memory_order_relaxed) >> 32) + 1;
    for (uint32_t r = size(); r-- > 0;) // the first one, which workers watch, is the last
      ranges_[r].ticket.store(epoch << 32 | first_item(r, count), std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_seq_cst) > 0) {
      {
        std::lock_guard<std::mutex> lock(mutex_);
      }
      wake_.notify_all();
    }
    help(epoch, 0);
    for (uint32_t spins = 1; done_.load(std::memory_order_acquire) != count; spins++) {
      if (spins % kLooks == 0) pause();
      if (spins % (1024 * kLooks) == 0) std::this_thread::yield(); // the last item may wait for us
    }
    for (Range& range : ranges_)
      range.ticket.store(epoch << 32 | kClosed, std::memory_order_release);
  }

 private:
  void join() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  // Looks between two pauses: where pauses follow each other more closely, a hypervisor takes the
  // processor away from what it believes to wait for a lock, for tens of microseconds.
  static constexpr uint32_t kLooks = 64;
  static constexpr uint32_t kClosed = UINT32_MAX;
  static constexpr auto kSpin = std::chrono::microseconds(300); // longer than a step of a simulator

  uint32_t first_item(uint32_t range, uint32_t count) const {
    return uint32_t(uint64_t(count) * range / size());
  }

  void help(uint64_t epoch, uint32_t own) {
    const Task task = task_.load(std::memory_order_acquire);
    const void* context = context_.load(std::memory_order_acquire);
    const uint32_t count = count_.load(std::memory_order_acquire);
    for (uint32_t k = 0; k < size(); k++) {
      const uint32_t r = (own + k) % size(), end = first_item(r + 1, count);
      std::atomic<uint64_t>& shared = ranges_[r].ticket;
      uint64_t ticket = shared.load(std::memory_order_acquire);
      while (ticket >> 32 == epoch && uint32_t(ticket) < end) {
        if (!shared.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) continue;
        task(context, uint32_t(ticket));
        done_.fetch_add(1, std::memory_order_release);
        ticket = shared.load(std::memory_order_acquire);
      }
    }
  }

  void work(uint32_t own) {
    uint64_t seen = 0;
    while (true) {
      const uint64_t epoch = wait(seen);
      if (stop_) return;
      step_aside();
      help(epoch, own);
      seen = epoch;
    }
  }

  void step_aside() const {
#if defined(__linux__)
    const int cpu = current_cpu();
    if (cpu != owner_cpu_.load(std::memory_order_relaxed)) return;
    cpu_set_t others = allowed_;
    CPU_CLR(size_t(cpu), &others);
    if (CPU_COUNT(&others) > 0) pthread_setaffinity_np(pthread_self(), sizeof others, &others);
#endif
  }

  uint64_t wait(uint64_t seen) { // the next epoch after `seen`, or any once stopped
    const auto start = std::chrono::steady_clock::now();
    do {
      for (uint32_t i = 0; i < kLooks; i++) {
        const uint64_t epoch = ranges_[0].ticket.load(std::memory_order_acquire) >> 32;
        if (epoch != seen || stop_) return epoch;
      }
      pause();
      step_aside();
    } while (std::chrono::steady_clock::now() - start < kSpin);
    std::unique_lock<std::mutex> lock(mutex_);
    sleeping_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [&] {
      return stop_ || ranges_[0].ticket.load(std::memory_order_seq_cst) >> 32 != seen;
    });
    sleeping_.fetch_sub(1, std::memory_order_seq_cst);
    return ranges_[0].ticket.load(std::memory_order_acquire) >> 32;
  }

#if defined(__linux__)
  cpu_set_t allowed_;
#endif
  std::vector<std::thread> threads_;
  std::mutex owner_, mutex_;
  std::condition_variable wake_;
  std::atomic<uint32_t> sleeping_{0};
  std::atomic<bool> stop_{false};
  struct alignas(64) Range {
    std::atomic<uint64_t> ticket{0};
  };
  std::vector<Range> ranges_;
  alignas(64) std::atomic<int> owner_cpu_{-1};
  std::atomic<Task> task_{nullptr};
  std::atomic<const void*> context_{nullptr};
  std::atomic<uint32_t> count_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
};

std::mutex pool_mutex;
std::atomic<uint32_t> wanted{1};
std::shared_ptr<Pool>& pool_slot() {
  static std::shared_ptr<Pool> pool;
  return pool;
}

// Workers do not survive a fork: the child forgets the pool (its threads are gone, so joining
// them would hang) and makes a new one when it first computes.
void forget_pool_after_fork() {
  new std::shared_ptr<Pool>(std::move(pool_slot()));
  pool_mutex.unlock();
}

std::shared_ptr<Pool> pool() {
  std::lock_guard<std::mutex> lock(pool_mutex);
  static const int registered = pthread_atfork([] { pool_mutex.lock(); },
                                               [] { pool_mutex.unlock(); }, forget_pool_after_fork);
  (void)registered;
  auto& slot = pool_slot();
  if (!slot || slot->size() != wanted) slot = std::make_shared<Pool>(wanted - 1);
  return slot;
}

} // namespace

void set_threads(uint32_t count) { wanted = count < 1 ? 1 : count; }
uint32_t threads() { return wanted; }

void run_items(uint32_t count, Task task, const void* context) {
  if (wanted == 1 || count < 2) {
    for (uint32_t i = 0; i < count; i++) task(context, i);
    return;
  }
  pool()->run(count, task, context);
}

} // namespace sparl

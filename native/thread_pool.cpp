#include "thread_pool.h"
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <pthread.h>
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

// Number of polls between two pause instructions. If pauses are more frequent, a hypervisor assumes
// that the thread waits for a lock and preempts the thread for tens of microseconds.
constexpr uint32_t kPolls = 64;

void wait_until(const std::atomic<uint32_t>& done, uint32_t count) {
  for (uint32_t spins = 1; done.load(std::memory_order_acquire) != count; spins++) {
    if (spins % kPolls == 0) pause();
    // The thread of the last item may need this processor.
    if (spins % (1024 * kPolls) == 0) std::this_thread::yield();
  }
}

} // namespace

struct PendingWork::Items {
  std::function<void(uint32_t)> body;
  const uint32_t count;
  std::atomic<uint64_t> left; // items [first, end) as first << 32 | end
  std::atomic<uint32_t> done{0};
  std::atomic<bool> released{false}; // whether `body` has been released

  Items(std::function<void(uint32_t)> body_, uint32_t count_)
      : body(std::move(body_)), count(count_), left(count_) {}

  bool any_left() const {
    const uint64_t range = left.load(std::memory_order_relaxed);
    return range >> 32 < uint32_t(range);
  }
  bool all_done() const { return done.load(std::memory_order_acquire) == count; }
  void take(bool from_first) noexcept { // computes items until none are left
    uint64_t range = left.load(std::memory_order_relaxed);
    while (range >> 32 < uint32_t(range)) {
      const uint64_t rest = from_first ? range + (uint64_t(1) << 32) : range - 1;
      if (!left.compare_exchange_weak(range, rest, std::memory_order_relaxed)) continue;
      body(from_first ? uint32_t(range >> 32) : uint32_t(rest));
      done.fetch_add(1, std::memory_order_release);
      range = left.load(std::memory_order_relaxed);
    }
  }
  void finish() {
    take(true);
    wait_until(done, count);
  }
};

// The items of a job are divided into one range for each thread. A thread takes items from its own
// range first and then from the other ranges, so that neighbouring items, which share data, are
// mostly computed on the same core.
// A job is published by raising the epoch in every range's ticket (epoch << 32 | next item). An
// item is claimed by a compare-and-swap on a ticket. The tickets are closed before the fields of
// the next job are written, so a successful claim proves that the fields read before the claim were
// current. Between two jobs, workers compute pending work, starting with the oldest.
class Workers {
 public:
  using Task = void (*)(const void* context, uint32_t item) noexcept;

  explicit Workers(uint32_t count) : ranges_(count + 1) {
    try {
      for (uint32_t i = 0; i < count; i++) threads_.emplace_back([this, i] { work(i + 1); });
    } catch (...) { // the system limits the number of threads: end those already started
      join();
      throw;
    }
  }
  ~Workers() { join(); }
  uint32_t size() const { return uint32_t(ranges_.size()); }

  void run(uint32_t count, Task task, const void* context) {
    std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
    if (!owner) {
      for (uint32_t i = 0; i < count; i++) task(context, i);
      return;
    }
    task_.store(task, std::memory_order_release);
    context_.store(context, std::memory_order_release);
    count_.store(count, std::memory_order_release);
    done_.store(0, std::memory_order_relaxed);
    const uint64_t epoch = (ranges_[0].ticket.load(std::memory_order_relaxed) >> 32) + 1;
    for (uint32_t r = size(); r-- > 0;) // the first ticket last, because workers poll that one
      ranges_[r].ticket.store(epoch << 32 | first_item(r, count), std::memory_order_seq_cst);
    wake();
    help(epoch, 0);
    wait_until(done_, count);
    for (Range& range : ranges_)
      range.ticket.store(epoch << 32 | kClosed, std::memory_order_release);
  }

  void offer(std::shared_ptr<PendingWork::Items> items) {
    {
      std::lock_guard<std::mutex> lock(offers_mutex_);
      forget_finished();
      offers_.push_back(std::move(items));
      offered_.store(true, std::memory_order_seq_cst);
    }
    wake();
  }

  // Completes all offered work, and prevents new offers until release_offers().
  void finish_offers() {
    offers_mutex_.lock();
    for (const auto& items : offers_) items->finish();
  }
  void release_offers() { offers_mutex_.unlock(); }

 private:
  void wake() {
    if (sleeping_.load(std::memory_order_seq_cst) == 0) return;
    {
      std::lock_guard<std::mutex> lock(mutex_);
    }
    wake_.notify_all();
  }

  void take_offer() {
    std::shared_ptr<PendingWork::Items> items;
    {
      std::lock_guard<std::mutex> lock(offers_mutex_);
      forget_finished();
      for (size_t i = 0; i < offers_.size() && !items; i++)
        if (offers_[i]->any_left()) items = offers_[i];
      if (!items) {
        offered_.store(false, std::memory_order_relaxed);
        return;
      }
    }
    items->take(false);
  }

  void forget_finished() { // unfinished offers stay in the list, because a fork completes them
    offers_.erase(std::remove_if(offers_.begin(), offers_.end(),
                                 [](const auto& items) { return items->all_done(); }),
                  offers_.end());
  }

  void join() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  static constexpr uint32_t kClosed = UINT32_MAX;
  static constexpr auto kSpin = std::chrono::microseconds(300); // longer than most simulator steps

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
      help(epoch, own);
      seen = epoch;
    }
  }

  uint64_t wait(uint64_t seen) { // returns the next epoch after `seen`, or any epoch once stopped
    auto start = std::chrono::steady_clock::now();
    while (true) {
      for (uint32_t i = 0; i < kPolls; i++) {
        const uint64_t epoch = ranges_[0].ticket.load(std::memory_order_acquire) >> 32;
        if (epoch != seen || stop_) return epoch;
      }
      pause();
      if (offered_.load(std::memory_order_relaxed)) {
        take_offer();
        start = std::chrono::steady_clock::now();
      }
      if (std::chrono::steady_clock::now() - start < kSpin) continue;
      std::unique_lock<std::mutex> lock(mutex_);
      sleeping_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [&] {
        return stop_ || offered_.load(std::memory_order_seq_cst) ||
               ranges_[0].ticket.load(std::memory_order_seq_cst) >> 32 != seen;
      });
      sleeping_.fetch_sub(1, std::memory_order_seq_cst);
    }
  }

  std::vector<std::thread> threads_;
  std::mutex owner_, mutex_;
  std::condition_variable wake_;
  std::atomic<uint32_t> sleeping_{0};
  std::atomic<bool> stop_{false};
  struct alignas(64) Range {
    std::atomic<uint64_t> ticket{0};
  };
  std::vector<Range> ranges_;
  alignas(64) std::atomic<Task> task_{nullptr};
  std::atomic<const void*> context_{nullptr};
  std::atomic<uint32_t> count_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  std::mutex offers_mutex_;
  std::vector<std::shared_ptr<PendingWork::Items>> offers_; // the oldest first
  std::atomic<bool> offered_{false};                        // whether offers may have items left
};

// Worker threads do not exist in the child of a fork. Therefore the child abandons these workers
// (joining them would hang) and starts new workers when it first computes. Pending work is
// completed before the fork, because items that a worker has begun would never end in the child.
struct AllPools {
  std::mutex mutex; // guards the list and the start of workers
  std::vector<ThreadPool*> pools;

  static AllPools& get() {
    static auto* all = new AllPools; // never destroyed: pools may outlive static objects
    return *all;
  }
  AllPools() { pthread_atfork(before, in_parent, in_child); }

  template <class Body>
  void each(const Body& body) {
    for (ThreadPool* pool : pools)
      if (Workers* workers = pool->workers_) body(*pool, *workers);
  }
  static void before() {
    get().mutex.lock();
    get().each([](ThreadPool&, Workers& workers) { workers.finish_offers(); });
  }
  static void in_parent() {
    get().each([](ThreadPool&, Workers& workers) { workers.release_offers(); });
    get().mutex.unlock();
  }
  static void in_child() {
    get().each([](ThreadPool& pool, Workers&) { pool.workers_ = nullptr; });
    get().mutex.unlock();
  }
};

ThreadPool::ThreadPool(uint32_t threads) : threads_(std::max(threads, 1u)) {
  AllPools& all = AllPools::get();
  std::lock_guard<std::mutex> lock(all.mutex);
  all.pools.push_back(this);
}

ThreadPool::~ThreadPool() {
  AllPools& all = AllPools::get();
  {
    std::lock_guard<std::mutex> lock(all.mutex);
    auto& pools = all.pools;
    pools.erase(std::find(pools.begin(), pools.end(), this));
  }
  delete workers_.load();
}

Workers& ThreadPool::workers() {
  if (Workers* started = workers_.load(std::memory_order_acquire)) return *started;
  std::lock_guard<std::mutex> lock(AllPools::get().mutex);
  if (!workers_.load(std::memory_order_relaxed))
    workers_.store(new Workers(threads_ - 1), std::memory_order_release);
  return *workers_;
}

void ThreadPool::run_items(uint32_t count, Task task, const void* context) {
  if (threads_ == 1 || count < 2) {
    for (uint32_t i = 0; i < count; i++) task(context, i);
    return;
  }
  workers().run(count, task, context);
}

PendingWork::PendingWork(ThreadPool& pool, uint32_t count, std::function<void(uint32_t)> body)
    : items_(std::make_shared<Items>(std::move(body), count)) {
  if (pool.threads() == 1)
    finish();
  else
    pool.workers().offer(items_);
}

void PendingWork::finish() {
  if (!items_) return;
  items_->finish();
  // The caller releases the body here, so that no worker does so by dropping the last reference.
  if (!items_->released.exchange(true)) items_->body = nullptr;
}

} // namespace sparl

#include "n_step_windows.h"
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace sparl {
namespace {

constexpr size_t kWindowsPerItem = 32;

enum Flag { kTerminated, kEpisodeEnd, kApart };

bool flag(const RingView& ring, const unsigned char* row, Flag which) {
  return row[4 * (ring.n_obs + ring.n_act + 1) + which];
}

float reward(const RingView& ring, const unsigned char* row) {
  float value;
  std::memcpy(&value, row + 4 * (ring.n_obs + ring.n_act), sizeof value);
  return value;
}

void copy(const void* from, size_t floats, float* to) {
  std::memcpy(to, from, floats * sizeof(float));
}

void check_ring(const RingView& ring, size_t count, const int64_t* ages) {
  const size_t needed = RingView::row_bytes(ring.n_obs, ring.n_act);
  if (ring.stride < needed)
    throw std::invalid_argument("gather_windows: rows have " + std::to_string(ring.stride) +
                                " bytes but need " + std::to_string(needed));
  if (ring.capacity == 0 || ring.size > ring.capacity)
    throw std::invalid_argument("gather_windows: size is " + std::to_string(ring.size) +
                                " but must be at most " + std::to_string(ring.capacity));
  for (size_t i = 0; i < count; i++)
    if (ages[i] < 0 || size_t(ages[i]) >= ring.size)
      throw std::invalid_argument("gather_windows: an age is " + std::to_string(ages[i]) +
                                  " but must be in [0, " + std::to_string(ring.size) + ")");
}

class Windows {
 public:
  Windows(const RingView& ring, const int64_t* ages, const WindowArrays& to)
      : ring_(ring), oldest_(ring.first % ring.capacity), ages_(ages), to_(to) {}

  void gather(size_t begin, size_t end) const {
    for (size_t i = begin; i < end; i++) prefetch(size_t(ages_[i]));
    for (size_t i = begin; i < end; i++) window(i);
  }

 private:
  const unsigned char* row(size_t age) const;
  void prefetch(size_t age) const;
  const void* reached(size_t age) const;
  void window(size_t i) const;

  const RingView& ring_;
  size_t oldest_; // row of the oldest transition
  const int64_t* ages_;
  const WindowArrays& to_;
};

const unsigned char* Windows::row(size_t age) const {
  const size_t row = oldest_ + age;
  return ring_.rows + (row < ring_.capacity ? row : row - ring_.capacity) * ring_.stride;
}

// A large ring does not fit into the caches, so the rows of several windows are prefetched before
// the first row is read.
void Windows::prefetch(size_t age) const {
  const unsigned char* from = row(age);
  const unsigned char* end =
      std::min(from + (to_.n + 1) * ring_.stride, ring_.rows + ring_.capacity * ring_.stride);
  for (; from < end; from += 64) __builtin_prefetch(from);
}

const void* Windows::reached(size_t age) const {
  if (flag(ring_, row(age), kApart)) {
    const auto number = int64_t(ring_.first + age), *end = ring_.states_of + ring_.states_count;
    const int64_t* found = std::lower_bound(ring_.states_of, end, number);
    if (found != end && *found == number)
      return ring_.states + size_t(found - ring_.states_of) * ring_.n_obs;
  }
  return row(age + 1);
}

void Windows::window(size_t i) const {
  const size_t n_obs = ring_.n_obs, n_act = ring_.n_act, age = size_t(ages_[i]);
  const unsigned char* at = row(age);
  copy(at, n_obs, to_.observation + i * n_obs);
  copy(at + 4 * n_obs, n_act, to_.action + i * n_act);
  float total = reward(ring_, at);
  uint32_t m = 1; // number of steps
  for (; m < to_.n && !flag(ring_, at, kEpisodeEnd) && age + m < ring_.size; m++) {
    at = row(age + m);
    total += to_.powers[m] * reward(ring_, at);
  }
  const float last = flag(ring_, at, kTerminated) ? 0.0f : to_.powers[m];
  to_.reward[i] = total;
  to_.discount[i] = last;
  copy(reached(age + m - 1), n_obs, to_.reached + i * n_obs);
  if (!to_.path) return;
  const uint32_t missing = to_.n - m;
  for (uint32_t k = 0; k < to_.n; k++) {
    const uint32_t step = k < missing ? 0 : k - missing;
    const size_t place = i * to_.n + k;
    to_.path_discount[place] = k < missing ? 0.0f : k + 1 < to_.n ? to_.powers[step + 1] : last;
    copy(reached(age + step), n_obs, to_.path + place * n_obs);
  }
}

} // namespace

void gather_windows(ThreadPool& pool, const RingView& ring, size_t count, const int64_t* given,
                    const WindowArrays& to) {
  const std::vector<int64_t> ages(given, given + count); // another thread may write to `given`
  check_ring(ring, count, ages.data());                  // the ring may come from a file
  const Windows windows(ring, ages.data(), to);
  const size_t items = (count + kWindowsPerItem - 1) / kWindowsPerItem;
  pool.parallel_for(uint32_t(items), [&](uint32_t item) {
    const size_t begin = item * kWindowsPerItem;
    windows.gather(begin, std::min(begin + kWindowsPerItem, count));
  });
}

} // namespace sparl

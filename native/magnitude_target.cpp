#include "magnitude_target.h"
#include "dispatch.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>

namespace sparl {
namespace {

constexpr float kGuess =
    1.1f;                     // the next surplus' largest magnitude: at most so many times the last
constexpr float kNear = 0.8f; // and at least so many times that guess

// A magnitude that somewhat more than `count` of the entries do not exceed, from a sample.
float guess_limit(size_t n, const float* values, size_t count) {
  constexpr size_t kSample = 1024;
  const double share = 1.2 * double(count) / double(n) + 0.01;
  if (n < 4 * kSample || share > 0.5) return INFINITY;
  std::vector<float> sample(kSample);
  for (size_t i = 0; i < kSample; i++) sample[i] = std::fabs(values[i * (n / kSample)]);
  const auto nth = sample.begin() + ptrdiff_t(share * kSample);
  std::nth_element(sample.begin(), nth, sample.end());
  return *nth;
}

// Indices of the entries whose magnitude does not exceed the limit, ascending.
void collect_small(size_t n, const float* values, float limit, std::vector<uint32_t>& small) {
  small.resize(n + kStrideStep);
  small.resize(kernels().collect_small(n, values, limit, small.data()));
}

} // namespace

Follower::Follower(std::vector<Piece> pieces) {
  for (Piece& piece : pieces) {
    target_end_ = std::max(target_end_, piece.target_at + piece.target_size);
    online_end_ = std::max(online_end_, piece.online_at + piece.online_size);
    const std::string where = "follower: the piece at " + std::to_string(piece.target_at);
    if (piece.source.empty() && piece.canonical.empty()) {
      if (piece.target_size != piece.online_size)
        throw std::invalid_argument(where + ": " + std::to_string(piece.target_size) +
                                    " entries follow " + std::to_string(piece.online_size));
      copies_.push_back(std::move(piece));
      continue;
    }
    if (piece.source.size() != piece.target_size || piece.canonical.size() != piece.target_size)
      throw std::invalid_argument(where + ": " + std::to_string(piece.target_size) + " entries, " +
                                  std::to_string(piece.source.size()) + " sources, " +
                                  std::to_string(piece.canonical.size()) + " canonical indices");
    leftovers_.emplace_back();
    for (uint32_t i = 0; i < piece.target_size; i++) {
      if (piece.source[i] > piece.online_size)
        throw std::invalid_argument(where + ": source " + std::to_string(piece.source[i]) + " of " +
                                    std::to_string(piece.online_size) + " online connections");
      if (piece.source[i] == piece.online_size) {
        leftovers_.back().push_back(i);
        piece.source[i] = 0; // read, and not used
      }
    }
    layers_.push_back(std::move(piece));
  }
  guess_ = std::vector<std::atomic<float>>(layers_.size());
  for (auto& guess : guess_) guess = 0.0f;
}

PendingWork Follower::follow(ThreadPool& pool, float* target, const float* online,
                             float tau) const {
  const Kernels& k = kernels();
  return PendingWork(pool, uint32_t(layers_.size() + copies_.size()), [=, &k](uint32_t i) {
    if (i < layers_.size()) return follow_layer(i, target, online, tau);
    const Piece& piece = copies_[i - layers_.size()];
    k.follow(piece.target_size, target + piece.target_at, online + piece.online_at, tau);
  });
}

void Follower::follow_layer(size_t index, float* all_targets, const float* all_online,
                            float tau) const {
  const Piece& piece = layers_[index];
  const std::vector<uint32_t>& leftovers = leftovers_[index];
  const size_t n = piece.target_size;
  float* target = all_targets + piece.target_at;
  thread_local std::vector<float> own_fading;
  std::vector<float>& fading = own_fading; // the thread's own is looked up once
  fading.clear();
  for (uint32_t i : leftovers) fading.push_back(target[i]);
  if (leftovers.size() < n)
    kernels().follow_gathered(n, target, all_online + piece.online_at, piece.source.data(), tau);
  for (size_t k = 0; k < leftovers.size(); k++)
    target[leftovers[k]] = tau == 1.0f ? 0.0f : fading[k] + tau * (0.0f - fading[k]);
  if (n <= piece.budget) return;
  const size_t surplus = n - piece.budget;

  // Only the small ones can go: collect those under a guess, or all if every guess was too low.
  thread_local std::vector<uint32_t> own_small;
  std::vector<uint32_t>& small = own_small;
  collect_small(n, target, guess_[index].load(std::memory_order_relaxed), small);
  if (small.size() < surplus) collect_small(n, target, guess_limit(n, target, surplus), small);
  if (small.size() < surplus) {
    small.resize(n);
    std::iota(small.begin(), small.end(), 0u);
  }

  // Magnitude and position in one integer: a non-negative float's bits ascend with its value. Only
  // those near the last one to go are compared; where the guess was bad, all.
  const auto key = [&](uint32_t i) {
    uint32_t bits;
    std::memcpy(&bits, &target[i], sizeof bits);
    return uint64_t(bits & 0x7fffffff) << 32 | piece.canonical[i];
  };
  thread_local std::vector<uint64_t> own_near;
  std::vector<uint64_t>& near = own_near;
  near.resize(small.size());
  const auto gather_near = [&](uint64_t below) { // and how many lie below
    size_t found = 0;
    for (uint32_t i : small) {
      near[found] = key(i);
      found += near[found] >= below;
    }
    near.resize(found);
    return small.size() - found;
  };
  uint32_t guess_bits;
  const float guess = kNear * guess_[index].load(std::memory_order_relaxed);
  std::memcpy(&guess_bits, &guess, sizeof guess_bits);
  size_t fewer = gather_near(uint64_t(guess_bits) << 32);
  if (fewer >= surplus || fewer + near.size() < surplus) {
    near.resize(small.size());
    fewer = gather_near(0);
  }
  const auto nth = near.begin() + ptrdiff_t(surplus - fewer) - 1;
  std::nth_element(near.begin(), nth, near.end());
  const uint64_t last = *nth;
  for (uint32_t i : small) target[i] = key(i) <= last ? 0.0f : target[i];
  const uint32_t bits = uint32_t(last >> 32);
  float magnitude;
  std::memcpy(&magnitude, &bits, sizeof bits);
  guess_[index].store(kGuess * magnitude, std::memory_order_relaxed);
}

} // namespace sparl

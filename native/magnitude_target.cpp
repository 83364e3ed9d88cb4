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

// Writes the ascending indices of the entries whose magnitude does not exceed the limit to `small`.
void collect_small(size_t n, const float* values, float limit, std::vector<uint32_t>& small) {
  small.resize(n + kStrideStep);
  small.resize(kernels().collect_small(n, values, limit, small.data()));
}

} // namespace

TargetUpdater::TargetUpdater(std::vector<Piece> pieces) {
  for (Piece& piece : pieces) {
    target_end_ = std::max(target_end_, piece.target_at + piece.target_size);
    online_end_ = std::max(online_end_, piece.online_at + piece.online_size);
    const std::string where = "TargetUpdater: the piece that starts at index " +
                              std::to_string(piece.target_at) + " of the target";
    if (piece.source.empty() && piece.canonical.empty()) {
      if (piece.target_size != piece.online_size)
        throw std::invalid_argument(where + " has " + std::to_string(piece.target_size) +
                                    " entries in the target but " +
                                    std::to_string(piece.online_size) + " in the online array");
      copies_.push_back(std::move(piece));
      continue;
    }
    if (piece.source.size() != piece.target_size || piece.canonical.size() != piece.target_size)
      throw std::invalid_argument(where + " has " + std::to_string(piece.target_size) +
                                  " entries, but " + std::to_string(piece.source.size()) +
                                  " sources and " + std::to_string(piece.canonical.size()) +
                                  " canonical indices; the three numbers must be equal");
    leftovers_.emplace_back();
    for (uint32_t i = 0; i < piece.target_size; i++) {
      if (piece.source[i] > piece.online_size)
        throw std::invalid_argument(where + ": a source is " + std::to_string(piece.source[i]) +
                                    " but must be at most " + std::to_string(piece.online_size));
      if (piece.source[i] == piece.online_size) {
        leftovers_.back().push_back(i);
        piece.source[i] = 0; // this value is read, but not used
      }
    }
    layers_.push_back(std::move(piece));
    threshold_.push_back(0);
  }
}

PendingWork TargetUpdater::update(ThreadPool& pool, float* target, const float* online, float tau) {
  const Kernels& k = kernels();
  return PendingWork(pool, uint32_t(layers_.size() + copies_.size()), [=, &k](uint32_t i) {
    if (i < layers_.size()) return update_layer(i, target, online, tau);
    const Piece& piece = copies_[i - layers_.size()];
    k.soft_update(piece.target_size, target + piece.target_at, online + piece.online_at, tau);
  });
}

void TargetUpdater::update_layer(size_t index, float* all_targets, const float* all_online,
                                 float tau) {
  const Piece& piece = layers_[index];
  const std::vector<uint32_t>& leftovers = leftovers_[index];
  const size_t n = piece.target_size;
  float* target = all_targets + piece.target_at;
  thread_local std::vector<float> own_fading;
  std::vector<float>& fading = own_fading; // one look-up of the thread-local variable
  fading.clear();
  for (uint32_t i : leftovers) fading.push_back(target[i]);
  if (leftovers.size() < n)
    kernels().soft_update_gathered(n, target, all_online + piece.online_at, piece.source.data(),
                                   tau);
  for (size_t k = 0; k < leftovers.size(); k++)
    target[leftovers[k]] = tau == 1.0f ? 0.0f : fading[k] + tau * (0.0f - fading[k]);
  if (n <= piece.budget) return;
  const size_t surplus = n - piece.budget;

  // The entries below the last threshold, with a margin of 10 %, are the candidates for pruning.
  // If 1,532 of a layer's 34,300 entries are pruned, pruning from these candidates takes 48 us;
  // examining all entries, as after a topology update, takes 300 us.
  thread_local std::vector<uint32_t> own_small;
  std::vector<uint32_t>& small = own_small;
  collect_small(n, target, 1.1f * threshold_[index], small);
  if (small.size() < surplus) {
    small.resize(n);
    std::iota(small.begin(), small.end(), 0u);
  }

  // A key combines magnitude and canonical index in one integer. Integers can replace floats here,
  // because the bits of non-negative floats are ordered like their values.
  const auto key = [&](uint32_t i) {
    uint32_t bits;
    std::memcpy(&bits, &target[i], sizeof bits);
    return uint64_t(bits & 0x7fffffff) << 32 | piece.canonical[i];
  };
  thread_local std::vector<uint64_t> own_keys;
  std::vector<uint64_t>& keys = own_keys;
  keys.resize(small.size());
  for (size_t k = 0; k < small.size(); k++) keys[k] = key(small[k]);
  const auto nth = keys.begin() + ptrdiff_t(surplus) - 1;
  std::nth_element(keys.begin(), nth, keys.end());
  const uint64_t last = *nth;
  for (uint32_t i : small) target[i] = key(i) <= last ? 0.0f : target[i];
  const uint32_t bits = uint32_t(last >> 32);
  std::memcpy(&threshold_[index], &bits, sizeof bits);
}

} // namespace sparl

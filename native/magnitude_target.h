// DS's targets (Sokar et al. 2021, algorithm 3): after following, a layer keeps its largest
// magnitudes.
#pragma once
#include "thread_pool.h"
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sparl {

// Target parameters that follow online ones whose layout is another: piece by piece, either one to
// one or a layer that keeps a pattern of its own within a budget.
class Follower {
 public:
  struct Piece {
    size_t target_at, target_size, online_at, online_size;
    // Of a layer over the union of the online pattern and the target's leftovers, for each entry:
    // its slot in the online layer, online_size where there is none, and its index in canonical
    // order. Empty: one to one, and the sizes are equal.
    std::vector<uint32_t> source, canonical;
    size_t budget;
  };

  // Throws std::invalid_argument if a piece contradicts itself.
  explicit Follower(std::vector<Piece> pieces);
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;

  // One to one: target = target + tau (online - target). A layer: the same, with online = 0 where
  // it has no such connection; then all but the `budget` entries of largest magnitude become 0,
  // ties by ascending canonical. Done at the latest when what it returns is finished; this, the
  // target and the online array must last until then, the online one unchanged.
  PendingWork follow(ThreadPool&, float* target, const float* online, float tau);

  size_t target_end() const { return target_end_; } // parameters that the pieces reach into
  size_t online_end() const { return online_end_; }

 private:
  void follow_layer(size_t index, float* target, const float* online, float tau);

  std::vector<Piece> copies_, layers_;
  std::vector<std::vector<uint32_t>> leftovers_; // of each layer: entries without a source
  std::vector<float> threshold_; // of each layer, the largest magnitude that went last
  size_t target_end_ = 0, online_end_ = 0;
};

} // namespace sparl

// DS's target updates (Sokar et al. 2021, algorithm 3): a soft update, after which each layer keeps
// its entries of largest magnitude.
#pragma once
#include "thread_pool.h"
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sparl {

// Soft update of target parameters whose layout differs from that of the online parameters. A piece
// is either a stretch that both store in the same order, or a layer with a pattern of its own that
// is pruned to a budget.
class TargetUpdater {
 public:
  struct Piece {
    size_t target_at, target_size, online_at, online_size;
    // A layer is stored over the union of the online pattern and the target's leftovers. source
    // holds the slot of each entry in the online layer, or online_size if there is none; canonical
    // holds its index in canonical order. Both are empty for a stretch in the same order, whose
    // sizes must be equal.
    std::vector<uint32_t> source, canonical;
    size_t budget;
  };

  // Throws std::invalid_argument if a piece contradicts itself.
  explicit TargetUpdater(std::vector<Piece> pieces);
  TargetUpdater(const TargetUpdater&) = delete;
  TargetUpdater& operator=(const TargetUpdater&) = delete;

  // Computes target = target + tau (online - target), with online = 0 where the online layer has no
  // such connection. Then all entries of a layer except the `budget` of largest magnitude become 0;
  // among equal magnitudes those of lower canonical index do. The update is complete when the
  // returned work is finished. Until then this object and both arrays must exist, and the online
  // array must not change.
  PendingWork update(ThreadPool&, float* target, const float* online, float tau);

  size_t target_end() const { return target_end_; } // smallest sizes of the arrays
  size_t online_end() const { return online_end_; }

 private:
  void update_layer(size_t index, float* target, const float* online, float tau);

  std::vector<Piece> copies_, layers_;
  std::vector<std::vector<uint32_t>> leftovers_; // of each layer: entries without a source
  std::vector<float> threshold_; // of each layer: the largest magnitude pruned by the last update
  size_t target_end_ = 0, online_end_ = 0;
};

} // namespace sparl

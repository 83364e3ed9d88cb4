// DS's target updates (Sokar et al. 2021, algorithm 3): a soft update, after which each layer keeps
// its entries of largest magnitude.
#pragma once
#include "thread_pool.h"
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sparl {

// The soft update of target parameters whose layout differs from that of the online parameters. The
// update is divided into pieces. A piece is either a stretch that both arrays store in the same
// order or the weights of a layer that has its own pattern in the target. Such a layer is pruned to
// its budget, the maximum number of entries that are not 0.
class TargetUpdater {
 public:
  struct Piece {
    size_t target_at, target_size, online_at, online_size;
    // A layer is stored over the union of the online pattern and the leftovers, the connections
    // that only the target has. `source` contains the index of each entry within the online layer,
    // or online_size for leftovers; `canonical` contains the index of each entry in canonical
    // order. For a stretch that both arrays store in the same order, both vectors are empty, the
    // sizes must be equal, and the budget is ignored.
    std::vector<uint32_t> source, canonical;
    size_t budget;
  };

  // Throws std::invalid_argument if the fields of a piece are inconsistent.
  explicit TargetUpdater(std::vector<Piece> pieces);
  TargetUpdater(const TargetUpdater&) = delete;
  TargetUpdater& operator=(const TargetUpdater&) = delete;

  // Computes target = target + tau (online - target), with online = 0 where the online layer lacks
  // the connection. Then all entries of a layer become 0 except the `budget` entries of largest
  // magnitude; among equal magnitudes, entries of lower canonical index become 0 first. The update
  // is complete when the returned work is finished. Until then this object and both arrays must
  // exist, and the online array must not change.
  PendingWork update(ThreadPool&, float* target, const float* online, float tau);

  size_t target_end() const { return target_end_; } // minimum size of each array
  size_t online_end() const { return online_end_; }

 private:
  void update_layer(size_t index, float* target, const float* online, float tau);

  std::vector<Piece> copies_, layers_;
  std::vector<std::vector<uint32_t>> leftovers_; // per layer: the indices of its leftovers
  std::vector<float> threshold_; // per layer: the largest magnitude that the last update pruned
  size_t target_end_ = 0, online_end_ = 0;
};

} // namespace sparl

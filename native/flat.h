// Passes over flat arrays, cut among the threads: the optimiser and the target updates.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sparl {

struct AdamSettings {
  double learning_rate, beta1, beta2, epsilon, weight_decay;
};

// Adam with L2 in the gradient; `step` counts from 1. Kingma & Ba 2015, algorithm 1.
void adam(size_t n, float* parameters, const float* gradient, float* m, float* v, uint64_t step,
          const AdamSettings&);

// target = target + tau (online - target)
void follow(size_t n, float* target, const float* online, float tau);

// One layer of a target that keeps a pattern of its own (Sokar et al., algorithm 3).
// target: [n] over the union of the online pattern and the target's leftovers; online: [n_online];
// source: [n] the slot in `online` of each entry, n_online where there is none; canonical: [n]
// index of each entry in canonical order.
// target = target + tau (online - target), with online = 0 where it has no such connection; then
// all but the `budget` entries of largest magnitude become 0, ties by ascending canonical.
void follow_within_budget(size_t n, float* target, const float* online, size_t n_online,
                          const uint32_t* source, const uint32_t* canonical, size_t budget,
                          float tau);

} // namespace sparl

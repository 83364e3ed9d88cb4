// The soft update of a flat array, which is divided among threads, and the scalars of Adam.
#pragma once
#include "kernels.h"
#include "thread_pool.h"
#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace sparl {

struct AdamSettings {
  double learning_rate, beta1, beta2, epsilon, weight_decay;
};

// Returns the scalars of a step of Adam (Kingma & Ba 2015, algorithm 1); `step` counts from 1.
AdamStep adam_step(uint64_t step, const AdamSettings&);

// Calls body(first, count) for parts of [0, n). There is one part per thread, so that a part
// usually stays in the cache of one core, or fewer parts if n is small.
template <class Body>
void in_parts(ThreadPool& pool, size_t n, const Body& body) {
  constexpr size_t kLeast = 4096; // at most one part per 4096 elements, rounded up
  const size_t parts = std::min<size_t>(pool.threads(), (n + kLeast - 1) / kLeast);
  pool.parallel_for(uint32_t(parts), [&](uint32_t i) {
    const size_t first = n * i / parts;
    body(first, n * (i + 1) / parts - first);
  });
}

// target = target + tau (online - target)
void soft_update(ThreadPool&, size_t n, float* target, const float* online, float tau);

} // namespace sparl

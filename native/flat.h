// Passes over flat arrays, cut among threads: target updates; and Adam's scalars.
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

// The scalars of a step of Adam; `step` counts from 1. Kingma & Ba 2015, algorithm 1.
AdamStep adam_step(uint64_t step, const AdamSettings&);

// Calls body(first, count) for parts of [0, n), one for each thread as long as they are long
// enough: a part stays in its thread's cache.
template <class Body>
void in_parts(ThreadPool& pool, size_t n, const Body& body) {
  constexpr size_t kLeast = 4096; // elements that are worth a thread
  const size_t parts = std::min<size_t>(pool.threads(), (n + kLeast - 1) / kLeast);
  pool.parallel_for(uint32_t(parts), [&](uint32_t i) {
    const size_t first = n * i / parts;
    body(first, n * (i + 1) / parts - first);
  });
}

// target = target + tau (online - target)
void follow(ThreadPool&, size_t n, float* target, const float* online, float tau);

} // namespace sparl

// Passes over flat arrays: target updates, and Adam's scalars.
#pragma once
#include "kernels.h"
#include "thread_pool.h"
#include <cstddef>
#include <cstdint>

namespace sparl {

struct AdamSettings {
  double learning_rate, beta1, beta2, epsilon, weight_decay;
};

// The scalars of a step of Adam; `step` counts from 1. Kingma & Ba 2015, algorithm 1.
AdamStep adam_step(uint64_t step, const AdamSettings&);

// target = target + tau (online - target)
void follow(ThreadPool&, size_t n, float* target, const float* online, float tau);

} // namespace sparl

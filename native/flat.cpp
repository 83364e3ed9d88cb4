#include "flat.h"
#include "dispatch.h"
#include <algorithm>
#include <cmath>

namespace sparl {

AdamStep adam_step(uint64_t step, const AdamSettings& s) {
  AdamStep scalars;
  scalars.beta1 = float(s.beta1);
  scalars.rest1 = float(1.0 - s.beta1);
  scalars.beta2 = float(s.beta2);
  scalars.rest2 = float(1.0 - s.beta2);
  scalars.step_size = float(s.learning_rate / (1.0 - std::pow(s.beta1, double(step))));
  scalars.root_bias2 = float(std::sqrt(1.0 - std::pow(s.beta2, double(step))));
  scalars.epsilon = float(s.epsilon);
  scalars.weight_decay = float(s.weight_decay);
  return scalars;
}

void follow(ThreadPool& pool, size_t n, float* target, const float* online, float tau) {
  constexpr size_t kLeast = 4096; // floats that are worth a thread
  // One part for each thread, as long as it is long enough: it stays in that thread's cache.
  const size_t parts = std::min<size_t>(pool.threads(), (n + kLeast - 1) / kLeast);
  pool.parallel_for(uint32_t(parts), [&](uint32_t i) {
    const size_t first = n * i / parts, end = n * (i + 1) / parts;
    kernels().follow(end - first, target + first, online + first, tau);
  });
}

} // namespace sparl

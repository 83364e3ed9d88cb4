#include "flat.h"
#include "dispatch.h"
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

void soft_update(ThreadPool& pool, size_t n, float* target, const float* online, float tau) {
  in_parts(pool, n, [&](size_t at, size_t count) {
    kernels().soft_update(count, target + at, online + at, tau);
  });
}

} // namespace sparl

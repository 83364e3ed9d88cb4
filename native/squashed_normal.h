// SAC's head: actions drawn from a squashed Gaussian, and the gradient through them.
#pragma once
#include "thread_pool.h"
#include <cstddef>

namespace sparl {

// Actions drawn from a squashed Gaussian, `rows` of them: heads [rows, 2 n] are means and then what
// the standard deviations follow from; see the kernel. log_density [rows]: summed over the action.
void squashed_normal(ThreadPool&, size_t rows, size_t n, const float* heads, const float* noise,
                     bool smooth, float* action, float* log_density, float* std, float* slope);

// The way back: d_heads [rows, 2 n] is dL/dheads with the noise held fixed,  dL/du = d_action (1 -
// action^2) + 2 d_log_density action,  dL/dlog_std = dL/du std noise - d_log_density.
void squashed_normal_gradient(size_t rows, size_t n, const float* action, const float* std,
                              const float* noise, const float* slope, const float* d_action,
                              float d_log_density, float* d_heads);

} // namespace sparl

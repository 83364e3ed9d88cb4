// SAC's squashed Gaussian policy: actions and the gradient through them.
#pragma once
#include "thread_pool.h"
#include <cstddef>

namespace sparl {

// Computes `rows` actions of a squashed Gaussian; kernels.h gives the formulas. A row of `heads`,
// [rows, 2 n], contains n means and n unbounded log standard deviations. `log_density`, [rows], is
// summed over the entries of an action.
void squashed_normal(ThreadPool&, size_t rows, size_t n, const float* heads, const float* noise,
                     bool smooth, float* action, float* log_density, float* std, float* slope);

// Computes d_heads [rows, 2 n], which is dL/dheads with the noise held fixed:
// dL/dmean = dL/du = d_action (1 - action^2) + 2 d_log_density action;
// dL/dhead = slope dL/dlog_std, dL/dlog_std = dL/du std noise - d_log_density.
void squashed_normal_gradient(size_t rows, size_t n, const float* action, const float* std,
                              const float* noise, const float* slope, const float* d_action,
                              float d_log_density, float* d_heads);

} // namespace sparl

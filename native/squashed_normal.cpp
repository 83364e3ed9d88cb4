#include "squashed_normal.h"
#include "dispatch.h"
#include "flat.h"
#include <algorithm>
#include <numeric>
#include <vector>

namespace sparl {

void squashed_normal(ThreadPool& pool, size_t rows, size_t n, const float* heads,
                     const float* noise, bool smooth, float* action, float* log_density, float* std,
                     float* slope) {
  std::vector<float> mean(rows * n), head(rows * n), density(rows * n);
  for (size_t r = 0; r < rows; r++, heads += 2 * n) {
    std::copy(heads, heads + n, mean.data() + r * n);
    std::copy(heads + n, heads + 2 * n, head.data() + r * n);
  }
  in_parts(pool, rows * n, [&](size_t at, size_t count) {
    kernels().squashed_normal(count, mean.data() + at, head.data() + at, noise + at, smooth,
                              action + at, density.data() + at, std + at, slope + at);
  });
  for (size_t r = 0; r < rows; r++)
    log_density[r] = std::accumulate(density.data() + r * n, density.data() + (r + 1) * n, 0.0f);
}

void squashed_normal_gradient(size_t rows, size_t n, const float* action, const float* std,
                              const float* noise, const float* slope, const float* d_action,
                              float d_log_density, float* d_heads) {
  for (size_t r = 0; r < rows; r++, d_heads += 2 * n)
    for (size_t j = 0, i = r * n; j < n; j++, i++) {
      const float a = action[i];
      const float d_u = d_action[i] * (1 - a * a) + d_log_density * 2 * a;
      d_heads[j] = d_u;
      d_heads[n + j] = (d_u * std[i] * noise[i] - d_log_density) * slope[i];
    }
}

} // namespace sparl

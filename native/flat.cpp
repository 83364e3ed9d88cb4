#include "flat.h"
#include "dispatch.h"
#include "threads.h"
#include <algorithm>
#include <cmath>
#include <vector>

namespace sparl {
namespace {

constexpr size_t kChunk = 8192; // floats per work item: a few microseconds

template <class Body> void in_chunks(size_t n, const Body& body) {
  parallel_for(uint32_t((n + kChunk - 1) / kChunk), [&](uint32_t i) {
    const size_t first = i * kChunk;
    body(first, std::min(kChunk, n - first));
  });
}

// A magnitude that about `fraction` of the entries do not exceed, from a sample of them.
float guess_quantile(size_t n, const float* values, double fraction) {
  constexpr size_t kSample = 1024;
  if (n <= 4 * kSample || fraction > 0.5) return INFINITY;
  std::vector<float> sample(kSample);
  for (size_t i = 0; i < kSample; i++) sample[i] = std::fabs(values[i * (n / kSample)]);
  const auto nth = sample.begin() + size_t(fraction * kSample);
  std::nth_element(sample.begin(), nth, sample.end());
  return *nth;
}

} // namespace

void adam(size_t n, float* parameters, const float* gradient, float* m, float* v, uint64_t step,
          const AdamSettings& s) {
  const AdamStep scalars{float(s.beta1),
                         float(s.beta2),
                         float(s.learning_rate / (1.0 - std::pow(s.beta1, double(step)))),
                         float(std::sqrt(1.0 - std::pow(s.beta2, double(step)))),
                         float(s.epsilon),
                         float(s.weight_decay)};
  in_chunks(n, [&](size_t at, size_t count) {
    kernels().adam(count, parameters + at, gradient + at, m + at, v + at, scalars);
  });
}

void follow(size_t n, float* target, const float* online, float tau) {
  in_chunks(n, [&](size_t at, size_t count) {
    kernels().follow(count, target + at, online + at, tau);
  });
}

void follow_within_budget(size_t n, float* target, const float* online, const uint32_t* source,
                          const uint32_t* canonical, size_t budget, float tau) {
  in_chunks(n, [&](size_t at, size_t count) {
    for (size_t i = at; i < at + count; i++) {
      const float w = source[i] == kNoSource ? 0.0f : online[source[i]];
      target[i] += tau * (w - target[i]);
    }
  });
  if (n <= budget) return;
  const size_t surplus = n - budget;

  // Only the small ones can go: collect those under a guess, or all if the guess was too low.
  std::vector<uint32_t> small(n);
  size_t found = 0;
  for (float limit = guess_quantile(n, target, 1.3 * double(surplus) / double(n) + 0.01);;
       limit = INFINITY) {
    found = 0;
    for (size_t i = 0; i < n; i++) {
      small[found] = uint32_t(i);
      found += !(std::fabs(target[i]) > limit);
    }
    if (found >= surplus) break;
  }
  const auto goes_first = [&](uint32_t a, uint32_t b) {
    const float x = std::fabs(target[a]), y = std::fabs(target[b]);
    return x != y ? x < y : canonical[a] < canonical[b];
  };
  if (found > surplus)
    std::nth_element(small.begin(), small.begin() + ptrdiff_t(surplus),
                     small.begin() + ptrdiff_t(found), goes_first);
  for (size_t i = 0; i < surplus; i++) target[small[i]] = 0.0f;
}

} // namespace sparl

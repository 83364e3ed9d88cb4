#include "flat.h"
#include "dispatch.h"
#include "threads.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace sparl {
namespace {

constexpr size_t kChunk = 8192; // floats per work item: a few microseconds

template <class Body>
void in_chunks(size_t n, const Body& body) {
  parallel_for(uint32_t((n + kChunk - 1) / kChunk), [&](uint32_t i) {
    const size_t first = i * kChunk;
    body(first, std::min(kChunk, n - first));
  });
}

// A magnitude that somewhat more than `count` of the entries do not exceed, from a sample.
float guess_limit(size_t n, const float* values, size_t count) {
  constexpr size_t kSample = 1024;
  const double share = 1.2 * double(count) / double(n) + 0.01;
  if (n < 4 * kSample || share > 0.5) return INFINITY;
  std::vector<float> sample(kSample);
  for (size_t i = 0; i < kSample; i++) sample[i] = std::fabs(values[i * (n / kSample)]);
  const auto nth = sample.begin() + ptrdiff_t(share * kSample);
  std::nth_element(sample.begin(), nth, sample.end());
  return *nth;
}

// Indices of the entries whose magnitude does not exceed the limit, ascending.
void collect_small(size_t n, const float* values, float limit, std::vector<uint32_t>& small) {
  small.resize(n);
  std::vector<size_t> found((n + kChunk - 1) / kChunk);
  in_chunks(n, [&](size_t at, size_t count) {
    uint32_t* out = small.data() + at;
    size_t k = 0;
    for (size_t i = at; i < at + count; i++) {
      out[k] = uint32_t(i);
      k += !(std::fabs(values[i]) > limit);
    }
    found[at / kChunk] = k;
  });
  size_t total = 0;
  for (size_t chunk = 0; chunk < found.size(); chunk++) {
    std::copy_n(small.begin() + ptrdiff_t(chunk * kChunk), found[chunk],
                small.begin() + ptrdiff_t(total));
    total += found[chunk];
  }
  small.resize(total);
}

} // namespace

void adam(size_t n, float* parameters, const float* gradient, float* m, float* v, uint64_t step,
          const AdamSettings& s) {
  AdamStep scalars;
  scalars.beta1 = float(s.beta1);
  scalars.rest1 = float(1.0 - s.beta1);
  scalars.beta2 = float(s.beta2);
  scalars.rest2 = float(1.0 - s.beta2);
  scalars.step_size = float(s.learning_rate / (1.0 - std::pow(s.beta1, double(step))));
  scalars.root_bias2 = float(std::sqrt(1.0 - std::pow(s.beta2, double(step))));
  scalars.epsilon = float(s.epsilon);
  scalars.weight_decay = float(s.weight_decay);
  in_chunks(n, [&](size_t at, size_t count) {
    kernels().adam(count, parameters + at, gradient + at, m + at, v + at, scalars);
  });
}

void follow(size_t n, float* target, const float* online, float tau) {
  in_chunks(
      n, [&](size_t at, size_t count) { kernels().follow(count, target + at, online + at, tau); });
}

void follow_within_budget(size_t n, float* target, const float* online, size_t n_online,
                          const uint32_t* source, const uint32_t* canonical, size_t budget,
                          float tau) {
  thread_local std::vector<float> padded; // the online values and a zero behind them
  padded.assign(online, online + n_online);
  padded.push_back(0.0f);
  const float* values = padded.data();
  in_chunks(n, [&](size_t at, size_t count) {
    kernels().follow_gathered(count, target + at, values, source + at, tau);
  });
  if (n <= budget) return;
  const size_t surplus = n - budget;

  // Only the small ones can go: collect those under a guess, or all if the guess was too low.
  thread_local std::vector<uint32_t> small;
  collect_small(n, target, guess_limit(n, target, surplus), small);
  if (small.size() < surplus) collect_small(n, target, INFINITY, small);

  // Magnitude and position in one integer: a non-negative float's bits ascend with its value.
  const auto key = [&](uint32_t i) {
    const float magnitude = std::fabs(target[i]);
    uint32_t bits;
    std::memcpy(&bits, &magnitude, sizeof bits);
    return uint64_t(bits) << 32 | canonical[i];
  };
  thread_local std::vector<uint64_t> keys;
  keys.clear();
  for (uint32_t i : small) keys.push_back(key(i));
  std::nth_element(keys.begin(), keys.begin() + ptrdiff_t(surplus) - 1, keys.end());
  const uint64_t last = keys[surplus - 1];
  for (uint32_t i : small)
    if (key(i) <= last) target[i] = 0.0f;
}

} // namespace sparl

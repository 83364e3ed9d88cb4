// n-step windows over a replay ring: which rows, what reward and what discount.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sparl {

// A ring of `capacity` rows of which `size` are alive, the first of them at `oldest`.
struct RingView {
  size_t capacity, oldest, size;
  const float* reward;       // [capacity]
  const uint8_t* terminated; // [capacity]
  const uint8_t* episode_end;
};

// For each of `count` windows that start `ages` rows after the oldest and take at most n steps:
// rows [count, n]: of its steps, the last one again where the window has ended (after m steps, at
// an episode's end or the newest row); reward [count]: sum_{k<m} powers[k] r_k, summed in this
// order; discount [count]: powers[m], or 0 at a terminal state; length [count]: m.
// powers: [n + 1], of gamma. Every age is below `size`.
void windows(const RingView&, size_t count, const int64_t* ages, uint32_t n, const float* powers,
             int64_t* rows, float* reward, float* discount, int64_t* length);

} // namespace sparl

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

// For each of `count` windows that start `ages` rows after the oldest and take at most n steps; it
// ends early, after m steps, at an episode's end or the newest row.
// first [count]: its first row.
// rows [count, n]: of its steps, moved to the right; n - m times the first one before them.
// reward [count]: sum_{k<m} powers[k] r_k, summed in this order.
// discount [count]: powers[m], or 0 where its last state is terminal.
// path_discount [count, n]: powers[k + 1] at the place of step k, 0 where that reached a terminal
// state and where there is no step.
// powers: [n + 1], of gamma. Every age is below `size`.
void windows(const RingView&, size_t count, const int64_t* ages, uint32_t n, const float* powers,
             int64_t* first, int64_t* rows, float* reward, float* discount, float* path_discount);

} // namespace sparl

// n-step windows over a replay ring: what a batch is made of.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sparl {

// A ring of `capacity` rows of which `size` are alive, the first of them at `oldest`. The state
// that a row reached is the next row's observation, except where `apart` says otherwise.
struct RingView {
  size_t capacity, oldest, size, n_obs, n_act;
  const float* observation; // [capacity, n_obs]
  const float* action;      // [capacity, n_act]
  const float* reward;      // [capacity]
  const uint8_t *terminated, *episode_end, *apart;
};

// Windows of at most n steps; one ends early, after m steps, at an episode's end or the newest row.
// Paths have n places; m steps stand in the last ones, the first row n - m times before them.
struct Windows {
  uint32_t n;
  float *observation, *action; // [count, n_obs], [count, n_act]: of the first row
  float* reward;               // [count]: sum_{k<m} powers[k] r_k, summed in this order
  float* discount;             // [count]: powers[m], or 0 where its last state is terminal
  float* reached;              // [count, n_obs]: after the last step
  float* path;                 // [count, n, n_obs]: after each step; null: not wanted
  float* path_discount;        // [count, n]: powers[k + 1] at the place of step k, 0 where that
                               // reached a terminal state and where there is no step; or null
};

// Those that start `ages` rows after the oldest; every age is below `size`. powers: [n + 1], of
// gamma. Adds (place in `path`, or in `reached` without one; row) to `apart` where a state that was
// asked for is kept elsewhere: what stands in its place means nothing.
struct Apart {
  std::vector<int64_t> place, row;
};
void windows(const RingView&, size_t count, const int64_t* ages, const float* powers,
             const Windows&, Apart&);

} // namespace sparl

// n-step windows over a replay ring, which form a batch.
#pragma once
#include "thread_pool.h"
#include <cstddef>
#include <cstdint>

namespace sparl {

// A ring of `capacity` rows, each `stride` bytes: observation [n_obs], action [n_act] and reward,
// float32, then three flags of a byte: terminated, episode_end, apart. Transitions are counted from
// the first ever stored. Those with counts in [first, first + size) are stored, each in the row of
// its count modulo `capacity`. The next state of a transition is the observation of the next row,
// unless `apart` is set: then it is in `states`, at the index of the transition's count in
// `states_of`.
struct RingView {
  size_t capacity, stride, n_obs, n_act;
  const unsigned char* rows;
  uint64_t first;
  size_t size;
  size_t states_count;
  const int64_t* states_of; // [states_count], ascending
  const float* states;      // [states_count, n_obs]

  static size_t row_bytes(size_t n_obs, size_t n_act) { return 4 * (n_obs + n_act + 1) + 3; }
};

// Where windows of at most n steps are written. A window ends after m < n steps at the end of an
// episode or at the newest row. A path has n entries: the m steps fill the last ones, and the n - m
// entries before them repeat the first state.
struct WindowArrays {
  uint32_t n;
  const float* powers;         // [n + 1], of gamma
  float *observation, *action; // [count, n_obs], [count, n_act]: of the first row
  float* reward;               // [count]: sum_{k<m} powers[k] r_k, summed in this order
  float* discount;             // [count]: powers[m], or 0 if the last state is terminal
  float* reached;              // [count, n_obs]: after the last step
  float* path;                 // [count, n, n_obs]: after each step; null: not written
  float* path_discount;        // [count, n]: powers[k + 1] for step k, or 0 if it reached a
                               // terminal state or does not exist; null like path
};

// Gathers the windows that start ages[i] transitions after the oldest. Throws std::invalid_argument
// if the ring contradicts itself or an age is beyond it.
void gather_windows(ThreadPool&, const RingView&, size_t count, const int64_t* ages,
                    const WindowArrays& to);

} // namespace sparl

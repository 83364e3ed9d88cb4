// Gathers a batch of n-step windows from the ring of a replay buffer.
#pragma once
#include "thread_pool.h"
#include <cstddef>
#include <cstdint>

namespace sparl {

// A ring of `capacity` rows of `stride` bytes each. A row contains the observation [n_obs], the
// action [n_act] and the reward, all float32, and three flags of one byte each: terminated,
// episode_end and apart. Transitions are numbered, starting at the first transition ever stored.
// The ring contains the transitions with numbers in [first, first + size); the row of a transition
// is its number modulo `capacity`. The next state of a transition is the observation of the next
// row, unless `apart` is set. In that case, `states` contains the next state, at the index where
// `states_of` contains the number of the transition.
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

// The arrays to which windows of at most n steps are written. A window has m steps: n, or fewer if
// its episode ends or the newest transition is reached before. A path has n entries: the last m are
// those of the m steps, and the n - m entries before them repeat the state after the first step.
struct WindowArrays {
  uint32_t n;
  const float* powers;         // [n + 1], the powers of gamma
  float *observation, *action; // [count, n_obs], [count, n_act]: those of the first row
  float* reward;               // [count]: sum_{k<m} powers[k] r_k, summed in this order
  float* discount;             // [count]: powers[m], or 0 if the state reached is terminal
  float* reached;              // [count, n_obs]: the state after the last step
  float* path;                 // [count, n, n_obs]: the state after each step; null if unused
  float* path_discount;        // [count, n]: powers[k + 1] for step k, or 0 if it reached a
                               // terminal state or does not exist; null if path is null
};

// Gathers the windows that start ages[i] transitions after the oldest one. Throws
// std::invalid_argument if the ring is inconsistent or an age is not in [0, size).
void gather_windows(ThreadPool&, const RingView&, size_t count, const int64_t* ages,
                    const WindowArrays& to);

} // namespace sparl

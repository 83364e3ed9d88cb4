#include "windows.h"
#include <algorithm>

namespace sparl {

void windows(const RingView& ring, size_t count, const int64_t* ages, const float* powers,
             const Windows& to, Apart& apart) {
  const size_t n_obs = ring.n_obs, n_act = ring.n_act;
  const uint32_t n = to.n;
  const auto next = [&](size_t row) { return row + 1 < ring.capacity ? row + 1 : 0; };
  const auto copy = [](const float* from, size_t length, float* into) {
    std::copy(from, from + length, into);
  };
  // A large ring lies in memory: ask for all of its rows before the first is needed.
  for (size_t i = 0; i < count; i++) {
    const size_t row = (ring.oldest + size_t(ages[i])) % ring.capacity;
    const float *first = ring.observation + row * n_obs, *end = first + (n + 1) * n_obs;
    __builtin_prefetch(ring.reward + row);
    __builtin_prefetch(ring.episode_end + row);
    __builtin_prefetch(ring.terminated + row);
    __builtin_prefetch(ring.apart + row);
    __builtin_prefetch(ring.action + row * n_act);
    if (row + n < ring.capacity)
      for (const float* line = first; line < end; line += 16) __builtin_prefetch(line);
  }

  std::vector<size_t> rows(n);
  std::vector<float> discounts(n);
  for (size_t i = 0; i < count; i++) {
    const size_t age = size_t(ages[i]);
    size_t row = (ring.oldest + age) % ring.capacity;
    copy(ring.observation + row * n_obs, n_obs, to.observation + i * n_obs);
    copy(ring.action + row * n_act, n_act, to.action + i * n_act);
    float total = ring.reward[row];
    rows[0] = row;
    discounts[0] = powers[1];
    uint32_t m = 1;
    while (m < n && !ring.episode_end[row] && age + m < ring.size) {
      row = next(row);
      total += powers[m] * ring.reward[row];
      rows[m++] = row;
      discounts[m - 1] = powers[m];
    }
    if (ring.terminated[row]) discounts[m - 1] = 0.0f;
    to.reward[i] = total;
    to.discount[i] = discounts[m - 1];
    copy(ring.observation + next(row) * n_obs, n_obs, to.reached + i * n_obs);
    if (!to.path) {
      if (ring.apart[row]) {
        apart.place.push_back(int64_t(i));
        apart.row.push_back(int64_t(row));
      }
      continue;
    }
    for (uint32_t k = 0; k < n; k++) {
      const bool step = k >= n - m;
      const size_t at = step ? rows[k - (n - m)] : rows[0], place = i * n + k;
      to.path_discount[place] = step ? discounts[k - (n - m)] : 0.0f;
      copy(ring.observation + next(at) * n_obs, n_obs, to.path + place * n_obs);
      if (ring.apart[at]) {
        apart.place.push_back(int64_t(place));
        apart.row.push_back(int64_t(at));
      }
    }
  }
}

} // namespace sparl

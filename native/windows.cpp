#include "windows.h"

namespace sparl {

void windows(const RingView& ring, size_t count, const int64_t* ages, uint32_t n,
             const float* powers, int64_t* rows, float* reward, float* discount, int64_t* length) {
  for (size_t i = 0; i < count; i++, rows += n) {
    const size_t age = size_t(ages[i]);
    size_t row = (ring.oldest + age) % ring.capacity;
    float total = ring.reward[row];
    uint32_t m = 1;
    rows[0] = int64_t(row);
    while (m < n && !ring.episode_end[row] && age + m < ring.size) {
      row = row + 1 < ring.capacity ? row + 1 : 0;
      total += powers[m] * ring.reward[row];
      rows[m++] = int64_t(row);
    }
    for (uint32_t k = m; k < n; k++) rows[k] = int64_t(row);
    reward[i] = total;
    discount[i] = ring.terminated[row] ? 0.0f : powers[m];
    length[i] = m;
  }
}

} // namespace sparl

#include "windows.h"
#include <algorithm>

namespace sparl {

void windows(const RingView& ring, size_t count, const int64_t* ages, uint32_t n,
             const float* powers, int64_t* first, int64_t* rows, float* reward, float* discount,
             float* path_discount) {
  for (size_t i = 0; i < count; i++, rows += n, path_discount += n) {
    const size_t age = size_t(ages[i]);
    size_t row = (ring.oldest + age) % ring.capacity;
    first[i] = int64_t(row);
    float total = ring.reward[row];
    rows[0] = int64_t(row);
    path_discount[0] = powers[1];
    uint32_t m = 1;
    while (m < n && !ring.episode_end[row] && age + m < ring.size) {
      row = row + 1 < ring.capacity ? row + 1 : 0;
      total += powers[m] * ring.reward[row];
      rows[m++] = int64_t(row);
      path_discount[m - 1] = powers[m];
    }
    if (ring.terminated[row]) path_discount[m - 1] = 0.0f;
    reward[i] = total;
    discount[i] = path_discount[m - 1];
    if (m == n) continue;
    std::copy_backward(rows, rows + m, rows + n);
    std::copy_backward(path_discount, path_discount + m, path_discount + n);
    std::fill(rows, rows + (n - m), first[i]);
    std::fill(path_discount, path_discount + (n - m), 0.0f);
  }
}

} // namespace sparl

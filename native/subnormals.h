// Subnormal numbers: those nearer to 0 than 2^-126. With weight decay, most weights of a neuron
// that is inactive in every batch become subnormal. On many Intel processors, a multiply-add with
// such a number takes about a thousand times as long as one without: .7 us instead of .7 ns on a
// Xeon. All other code, such as the optimiser, computes in the mode of its thread; workers inherit
// the mode of the thread that starts them. A program must not change its mode after that, or
// results depend on which thread computes what.
#pragma once
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace sparl {

#if defined(__x86_64__)
inline constexpr bool kFlushesSubnormals = true;

// As long as this object exists, its thread computes with 0 instead of subnormal numbers.
class FlushSubnormals {
 public:
  FlushSubnormals() : before_(_mm_getcsr()) {
    constexpr unsigned flush_to_zero = 1u << 15, denormals_are_zero = 1u << 6;
    _mm_setcsr(before_ | flush_to_zero | denormals_are_zero);
  }
  ~FlushSubnormals() { _mm_setcsr(before_); }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  const unsigned before_;
};
#else
inline constexpr bool kFlushesSubnormals = false;

class FlushSubnormals { // does nothing on other processors
 public:
  FlushSubnormals() {}
};
#endif

} // namespace sparl

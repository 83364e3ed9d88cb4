// Eight lanes, fused multiply-add; compiled with -mavx2 -mfma where the compiler targets x86-64.
#include "kernels.h"
#if defined(__AVX2__) && defined(__FMA__)
#define SPARL_LANES 8
#define SPARL_REGISTERS 16
#define SPARL_NAME kernels_avx2
#define SPARL_ISA_NAME "avx2"
#include "kernels.inl"
#else
namespace sparl {
const Kernels* kernels_avx2() { return nullptr; }
} // namespace sparl
#endif

// Sixteen lanes, 32 registers; compiled with -mavx512f -mfma where the compiler targets x86-64.
#include "kernels.h"
#if defined(__AVX512F__)
#define SPARL_LANES 16
#define SPARL_REGISTERS 32
#define SPARL_NAME kernels_avx512
#define SPARL_ISA_NAME "avx512"
#include "kernels.inl"
#else
namespace sparl {
const Kernels* kernels_avx512() { return nullptr; }
} // namespace sparl
#endif

// Four lanes, 32 registers: available on every 64-bit ARM processor.
#include "kernels.h"
#if defined(__aarch64__)
#define SPARL_LANES 4
#define SPARL_REGISTERS 32
#define SPARL_NAME kernels_neon
#define SPARL_ISA_NAME "neon"
#include "kernels.inl"
#else
namespace sparl {
const Kernels* kernels_neon() { return nullptr; }
} // namespace sparl
#endif

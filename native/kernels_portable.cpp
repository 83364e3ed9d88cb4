// The reference kernels: four lanes, and only baseline instructions of the architecture.
#define SPARL_LANES 4
#define SPARL_REGISTERS 16
#define SPARL_NAME kernels_portable
#define SPARL_ISA_NAME "portable"
#include "kernels.inl"

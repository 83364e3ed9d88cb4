// The specification: four lanes and only the architecture's baseline instructions.
#define SPARL_LANES 4
#define SPARL_REGISTERS 16
#define SPARL_NAME kernels_portable
#define SPARL_ISA_NAME "portable"
#include "kernels.inl"

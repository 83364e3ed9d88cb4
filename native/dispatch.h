// Which kernels run. Chosen once from what the processor has; a name forces one.
#pragma once
#include "kernels.h"
#include <string>
#include <vector>

namespace sparl {

std::vector<const Kernels*> available_kernels(); // best last; never empty

const Kernels& kernels(); // the table in use

// Throws std::invalid_argument, naming what is available, if this processor or binary has no
// such build. Not to be called while another thread computes.
void use_kernels(const std::string& name);

} // namespace sparl

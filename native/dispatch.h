// Selects the kernels by the instruction sets of the processor or by name.
#pragma once
#include "kernels.h"
#include <string>
#include <vector>

namespace sparl {

std::vector<const Kernels*> available_kernels(); // the fastest last; never empty

const Kernels& kernels(); // the table in use

// Selects kernels by name. Throws std::invalid_argument, with a list of the available kernels, if
// this processor or binary does not support the named ones. Must not be called while another thread
// computes.
void use_kernels(const std::string& name);

} // namespace sparl

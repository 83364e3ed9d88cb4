// Timing of single kernels, outside Python: what the benchmark reports as GFLOP/s.
#pragma once
#include "pattern_blocks.h"

namespace sparl {

enum class Timed { forward, input_gradient, weight_gradient };

// Mean seconds of one call on one thread, over at least `least` seconds of calls. The layer's
// arrays are made anew for each measurement and hold values of order one.
double seconds_per_call(const Layer&, Timed, uint32_t batch, double least);

// Multiply-adds per second of one core with the instruction set in use: independent chains in
// registers, nothing else.
double multiply_add_peak(double least);

// The same for its loads of activations alone, whole vectors in the same order and from the same
// tiles: about what a kernel on these blocks takes at the least.
double seconds_of_loads(const Layer&, Timed, uint32_t batch, double least);

} // namespace sparl

// Times single kernels without Python, for the GFLOP/s of the benchmark.
#pragma once
#include "pattern_blocks.h"

namespace sparl {

enum class Timed { forward, input_gradient, weight_gradient };

// Returns the mean duration of one call on one thread, over at least `least` seconds of calls. Each
// measurement allocates new arrays with values of order one.
double seconds_per_call(const Layer&, Timed, uint32_t batch, double least);

// Returns the multiply-adds per second of one core with the current instruction set, in independent
// chains in registers.
double multiply_add_peak(double least);

// Returns the duration of the kernel's loads of activations only, whole vectors in the same order
// and from the same tiles. It is an approximate lower bound of a kernel's duration.
double seconds_of_loads(const Layer&, Timed, uint32_t batch, double least);

} // namespace sparl

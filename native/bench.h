// Times single kernels without Python's overhead, for the GFLOP/s that the benchmark reports.
#pragma once
#include "linear.h"

namespace sparl {

enum class Timed { forward, input_gradient, weight_gradient };

// Returns the mean duration of one call on one thread, in seconds, measured for at least `least`
// seconds. Each measurement allocates new arrays with values in [-0.5, 0.5).
double seconds_per_call(const Linear&, Timed, uint32_t batch, double least);

// Returns the multiply-adds per second of one core with the current instruction set, measured for
// at least `least` seconds on independent chains of operations in registers.
double multiply_add_peak(double least);

// Returns the time, in seconds per call, that a kernel's loads of activations alone take: whole
// vectors, from the same columns and tiles in the same order. This is an approximate lower bound
// for the whole kernel's time.
double seconds_of_loads(const Linear&, Timed, uint32_t batch, double least);

} // namespace sparl

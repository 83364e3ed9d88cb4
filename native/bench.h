// Times single kernels without Python's overhead, for the GFLOP/s that the benchmark reports.
#pragma once
#include "linear.h"

namespace sparl {

enum class Timed { forward, input_gradient, weight_gradient };

// Returns the mean duration of one call on one thread, measured for at least `least` seconds. Each
// measurement allocates new arrays with values of order one.
double seconds_per_call(const Linear&, Timed, uint32_t batch, double least);

// Returns the multiply-adds per second of one core with the current instruction set, measured on
// independent chains of operations in registers.
double multiply_add_peak(double least);

// Returns the time that a kernel's loads of activations alone take, as whole vectors, in the same
// order and from the same tiles. This is an approximate lower bound for the whole kernel's time.
double seconds_of_loads(const Linear&, Timed, uint32_t batch, double least);

} // namespace sparl

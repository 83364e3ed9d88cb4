#include "layer.h"
#include <stdexcept>
#include <string>

namespace sparl {

Layer::Layer(uint32_t n_in_, uint32_t n_out_, uint32_t first_gradient_input_)
    : n_in(n_in_), n_out(n_out_), first_gradient_input(first_gradient_input_) {
  if (n_in == 0 || n_out == 0 || n_in >= 1u << 28 || n_out >= 1u << 28)
    throw std::invalid_argument("layer: has " + std::to_string(n_in) + " inputs and " +
                                std::to_string(n_out) +
                                " outputs, but both numbers must be in [1, 2^28)");
  if (first_gradient_input > n_in)
    throw std::invalid_argument("layer: first_gradient_input is " +
                                std::to_string(first_gradient_input) + " but must be at most " +
                                std::to_string(n_in) + ", the number of inputs");
}

// Turns dL/dy into dL/d(pre-activation) in place; y is the output of the activation.
void differentiate(Activation activation, uint32_t rows, const float* y, float* dy, size_t stride,
                   uint32_t samples) {
  for (uint32_t r = 0; r < rows; r++, y += stride, dy += stride)
    for (uint32_t b = 0; b < samples; b++) {
      if (activation == Activation::tanh) dy[b] *= 1.0f - y[b] * y[b];
      if (activation == Activation::relu) dy[b] = y[b] > 0 ? dy[b] : 0.0f;
    }
}

} // namespace sparl

// The interface of all kinds of layers. A network uses its layers only through this interface.
#pragma once
#include "kernels.h"
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sparl {

enum class Activation { none, relu, tanh };

// Turns dL/dy into dL/d(pre-activation) in place; y is the output of the activation.
void differentiate(Activation, uint32_t rows, const float* y, float* dy, size_t stride,
                   uint32_t samples);

// A layer of one member of a network; immutable. Its parameters are contiguous in the flat array of
// the network. `parameters` points to the first of them. All arrays of values are feature-major:
// the rows have `stride` floats, of which `samples` are computed.
class Layer {
 public:
  const uint32_t n_in, n_out;
  const uint32_t first_gradient_input; // index of the first input that has a gradient

  // Throws std::invalid_argument if a number is out of range.
  Layer(uint32_t n_in, uint32_t n_out, uint32_t first_gradient_input);
  virtual ~Layer() = default;

  uint32_t gradient_inputs() const { return n_in - first_gradient_input; }
  virtual size_t parameters() const = 0;

  // The canonical index of each weight that belongs to a connection, in the order in which these
  // weights are stored, before all other parameters. Empty if the layer has no pattern.
  virtual const std::vector<uint32_t>& canonical_order() const = 0;

  // Computes y = activation(layer(x)).
  virtual void outputs(const Kernels&, const float* parameters, Activation, const float* x,
                       float* y, size_t stride, uint32_t samples) const = 0;

  // Indices of the parameters that input_gradient() reads, in the order in which it reads them.
  virtual const std::vector<uint32_t>& gathered() const = 0;

  // Computes dx, the gradient with respect to the sums before the activation `before` that computed
  // x, for the inputs from first_gradient_input on. dy is the gradient with respect to the layer's
  // own sums. `gathered` contains the values of the parameters whose indices gathered() returns.
  virtual void input_gradient(const Kernels&, const float* gathered, const float* dy,
                              Activation before, const float* x, float* dx, size_t stride,
                              uint32_t samples) const = 0;

  // The gradient with respect to the parameters is computed in parts, for several threads. A part
  // computes the gradient of two ranges of parameters, one of which may be empty.
  struct Range {
    size_t first, size;
  };
  virtual uint32_t parts() const = 0;
  virtual std::array<Range, 2> ranges(uint32_t part) const = 0;

  // Writes the gradients of a part's ranges to `to`; x and dy are those of input_gradient().
  virtual void parameter_gradient(const Kernels&, uint32_t part, const float* dy, const float* x,
                                  size_t stride, uint32_t samples,
                                  const std::array<float*, 2>& to) const = 0;
};

} // namespace sparl

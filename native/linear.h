// The layer y = activation(W x + b) with a connectivity pattern.
#pragma once
#include "layer.h"
#include "pattern_blocks.h"

namespace sparl {

// The parameters are the weights, in kernel order, and the biases. Canonical order is row-major:
// position = output n_in + input.
class Linear final : public Layer {
 public:
  PatternBlocks forward;                  // rows are outputs
  PatternBlocks transposed;               // rows are inputs from first_gradient_input on
  std::vector<uint32_t> canonical_index;  // [N], of each connection, in the order of `forward`
  std::vector<uint32_t> transposed_slots; // index in `forward` of each connection in `transposed`

  // positions: [count], strictly ascending, each less than n_in n_out. Throws std::invalid_argument
  // if the positions are invalid, or if the number of inputs, outputs or connections is out of
  // range.
  Linear(uint32_t n_in, uint32_t n_out, const int64_t* positions, size_t count,
         uint32_t first_gradient_input);

  size_t connections() const { return canonical_index.size(); }
  size_t parameters() const override { return connections() + n_out; }
  const std::vector<uint32_t>& canonical_order() const override { return canonical_index; }
  void outputs(const Kernels&, const float* parameters, Activation, const float* x, float* y,
               size_t stride, uint32_t samples) const override;
  const std::vector<uint32_t>& gathered() const override { return transposed_slots; }
  void input_gradient(const Kernels&, const float* gathered, const float* dy, Activation before,
                      const float* x, float* dx, size_t stride, uint32_t samples) const override;
  uint32_t parts() const override;
  std::array<Range, 2> ranges(uint32_t part) const override;
  void parameter_gradient(const Kernels&, uint32_t part, const float* dy, const float* x,
                          size_t stride, uint32_t samples,
                          const std::array<float*, 2>& to) const override;
};

} // namespace sparl

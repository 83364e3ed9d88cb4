// The smallest output of an ensemble of critics, with its gradient: clipped double Q-learning
// (Fujimoto et al. 2018).
#pragma once
#include "network.h"

namespace sparl {

// value: [batch], the smallest output of the `members` members from first_member on for each
// sample, or NaN if one of the outputs is NaN; the network must have one linear output.
// input_gradient: [batch, gradient_inputs()], the gradient of weight sum(value); if several members
// have the smallest output of a sample, they share the sample's gradient equally. The backward pass
// of a tile immediately follows its forward pass, so that the activations stay in caches.
void value_and_input_gradient(const Stack&, ThreadPool&, const float* parameters,
                              const std::vector<Input>& inputs, uint32_t batch,
                              uint32_t first_member, uint32_t members, float weight, float* value,
                              float* input_gradient);

} // namespace sparl

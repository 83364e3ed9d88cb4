#include "clipped_double_q.h"
#include "dispatch.h"
#include <algorithm>
#include <cmath>

namespace sparl {

void value_and_input_gradient(const Stack& stack, ThreadPool& pool, const float* parameters,
                              const std::vector<Input>& inputs, uint32_t batch,
                              uint32_t first_member, uint32_t members, float weight, float* value,
                              float* input_gradient) {
  const Kernels& k = kernels();
  const uint32_t n_in = stack.n_in(), gradient_inputs = stack.gradient_inputs();
  const size_t widest = stack.widest();
  const Stack::Gathered weights = stack.gathered(pool, k, parameters, first_member, members, 0);
  const Tiles tiles(padded_samples(batch, k), widest, pool.threads(), k);
  const size_t stride = tiles.stride(), member_size = stack.width() * stride;
  const size_t dx_size = gradient_inputs * stride;
  pool.parallel_for(tiles.count, [&](uint32_t item) {
    const uint32_t at = tiles.first(item), size = tiles.size(item);
    const uint32_t samples = std::min(size, batch - at);
    const Buffer buffer((n_in + 2 * widest) * stride + members * (member_size + dx_size));
    float* const x = buffer.data();
    float* const dys = x + n_in * stride; // gradients of two consecutive layers
    float* const inputs_dx = dys + 2 * widest * stride;
    float* const activations = inputs_dx + members * dx_size;
    const auto output_of = [&](uint32_t e, uint32_t l) {
      return activations + e * member_size + stack.rows_before(l) * stride;
    };

    pack(inputs, batch, at, size, x, stride, k);
    for (uint32_t e = 0; e < members; e++)
      stack.forward_tile(
          k, parameters, first_member + e, x, [&](uint32_t l) { return output_of(e, l); }, stride,
          size);

    const auto y = [&](uint32_t e) { return activations + (e + 1) * member_size - stride; };
    for (uint32_t b = 0; b < samples; b++) {
      float least = y(0)[b], equal = 0;
      for (uint32_t e = 1; e < members; e++)
        if (!std::isnan(least) && !(least <= y(e)[b])) least = y(e)[b];
      for (uint32_t e = 0; e < members; e++) equal += y(e)[b] == least;
      for (uint32_t e = 0; e < members; e++) // replace y by the gradient of weight sum(value)
        y(e)[b] = members == 1 ? weight : float(y(e)[b] == least) / equal * weight;
      value[at + b] = least;
    }
    for (uint32_t e = 0; e < members; e++) {
      std::fill(y(e) + samples, y(e) + size, 0.0f);
      const auto dx = [&](uint32_t l) {
        return l > 0 ? dys + (l % 2) * widest * stride : inputs_dx + e * dx_size;
      };
      stack.backward_tile(
          k, weights, first_member + e, y(e),
          [&](uint32_t l) { return l > 0 ? output_of(e, l - 1) : x; }, dx, stride, size);
    }
    for (uint32_t e = 1; e < members; e++)
      for (size_t row = 0; row < dx_size; row += stride)
        for (uint32_t b = 0; b < samples; b++)
          inputs_dx[row + b] += inputs_dx[e * dx_size + row + b];
    k.unpack(samples, gradient_inputs, inputs_dx, stride,
             input_gradient + size_t(at) * gradient_inputs);
  });
}

} // namespace sparl

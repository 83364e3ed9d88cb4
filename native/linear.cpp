#include "linear.h"
#include "subnormals.h"
#include <algorithm>
#include <stdexcept>
#include <string>

namespace sparl {
namespace {

constexpr uint32_t kPartBlocks = 8; // blocks of rows per part of a gradient

void check_positions(uint32_t n_in, uint32_t n_out, const int64_t* positions, size_t count) {
  if (count >= size_t(UINT32_MAX))
    throw std::invalid_argument("layer: has " + std::to_string(count) +
                                " connections but must have at most 2^32 - 2");
  const int64_t end = int64_t(n_in) * n_out;
  for (size_t i = 0; i < count; i++)
    if (positions[i] < 0 || positions[i] >= end || (i && positions[i] <= positions[i - 1]))
      throw std::invalid_argument("layer: positions must ascend strictly within [0, " +
                                  std::to_string(end) + "); entry " + std::to_string(i) + " is " +
                                  std::to_string(positions[i]));
}

} // namespace

Linear::Linear(uint32_t n_in_, uint32_t n_out_, const int64_t* positions, size_t count,
               uint32_t first)
    : Layer(n_in_, n_out_, first) {
  check_positions(n_in, n_out, positions, count); // positions may be from a file
  ConnectionRows by_output;
  by_output.start.assign(n_out + 1, 0);
  by_output.column.resize(count);
  by_output.name.resize(count);
  ConnectionRows by_input;
  by_input.start.assign(n_in - first + 1, 0);
  for (size_t i = 0; i < count; i++) {
    const uint32_t input = uint32_t(positions[i] % n_in);
    by_output.start[positions[i] / n_in + 1]++;
    by_output.column[i] = input;
    by_output.name[i] = uint32_t(i);
    if (input >= first) by_input.start[input - first + 1]++;
  }
  for (uint32_t r = 0; r < n_out; r++) by_output.start[r + 1] += by_output.start[r];
  for (uint32_t c = 0; c < n_in - first; c++) by_input.start[c + 1] += by_input.start[c];
  forward = build_blocks(n_out, by_output, canonical_index);

  std::vector<uint32_t> slot_of(count);
  for (size_t slot = 0; slot < count; slot++) slot_of[canonical_index[slot]] = uint32_t(slot);
  by_input.column.resize(by_input.start.back());
  by_input.name.resize(by_input.start.back());
  std::vector<uint32_t> next(by_input.start.begin(), by_input.start.end() - 1);
  for (size_t i = 0; i < count; i++) { // in canonical order, so that outputs ascend
    const uint32_t input = by_output.column[i];
    if (input < first) continue;
    const uint32_t at = next[input - first]++;
    by_input.column[at] = uint32_t(positions[i] / n_in);
    by_input.name[at] = slot_of[i];
  }
  transposed = build_blocks(n_in - first, by_input, transposed_slots);
}

void Linear::outputs(const Kernels& k, const float* parameters, Activation activation,
                     const float* x, float* y, size_t stride, uint32_t samples) const {
  const FlushSubnormals mode;
  k.product(forward.view(), parameters, parameters + connections(), x, y, nullptr,
            activation == Activation::relu ? Epilogue::relu : Epilogue::none, stride, samples);
  if (activation == Activation::tanh) k.tanh_rows(n_out, y, stride, samples);
}

void Linear::input_gradient(const Kernels& k, const float* weights, const float* dy,
                            Activation before, const float* x, float* dx, size_t stride,
                            uint32_t samples) const {
  const FlushSubnormals mode;
  const bool gated = before == Activation::relu; // the product also applies ReLU's derivative
  k.product(transposed.view(), weights, nullptr, dy, dx, gated ? x : nullptr,
            gated ? Epilogue::gate : Epilogue::none, stride, samples);
  if (before == Activation::tanh) differentiate(before, n_in, x, dx, stride, samples);
}

uint32_t Linear::parts() const { return (forward.block_count() + kPartBlocks - 1) / kPartBlocks; }

std::array<Layer::Range, 2> Linear::ranges(uint32_t part) const {
  const uint32_t first = part * kPartBlocks;
  const uint32_t last = std::min(first + kPartBlocks, forward.block_count());
  const size_t weight = forward.block[first].value, row = first * kBlockRows;
  return {Range{weight, forward.block[last].value - weight},
          Range{connections() + row, std::min<size_t>(last * kBlockRows, n_out) - row}};
}

void Linear::parameter_gradient(const Kernels& k, uint32_t part, const float* dy, const float* x,
                                size_t stride, uint32_t samples,
                                const std::array<float*, 2>& to) const {
  const uint32_t first = part * kPartBlocks;
  const uint32_t last = std::min(first + kPartBlocks, forward.block_count());
  k.weight_gradient(forward.view(), first, last, dy, x, stride, samples, to[0]);
  const uint32_t row = first * kBlockRows;
  k.bias_gradient(std::min(last * kBlockRows, n_out) - row, dy + row * stride, stride, samples,
                  to[1]);
}

} // namespace sparl

#include "tiles.h"
#include "dispatch.h"
#include <algorithm>

namespace sparl {
namespace {

constexpr size_t kTileFloats = 65536; // 256 KiB of activations, which a second-level cache can hold

} // namespace

uint32_t padded_samples(uint32_t batch, const Kernels& k) {
  return (batch + k.step - 1) / k.step * k.step;
}

Tiles::Tiles(uint32_t padded, size_t widest, uint32_t parts, const Kernels& k)
    : samples(padded), vectors((padded + k.lanes - 1) / k.lanes), lanes(k.lanes) {
  const size_t near = kTileFloats / (widest * lanes);
  const uint32_t most = uint32_t(std::clamp<size_t>(near, 2, k.max_vectors));
  const uint32_t least = (vectors + most - 1) / most;
  count = std::max({least, std::min(parts, vectors / 2), 1u});
}

uint32_t Tiles::first(uint32_t tile) const {
  return std::min(samples, uint32_t(uint64_t(vectors) * tile / count) * lanes);
}

size_t Tiles::stride() const {
  const size_t widest = std::min(samples, (vectors + count - 1) / count * lanes);
  return (widest + kStrideStep - 1) / kStrideStep * kStrideStep;
}

size_t row_stride(uint32_t batch) {
  const size_t lines = (batch + kStrideStep - 1) / kStrideStep;
  return (lines | 1) * kStrideStep;
}

PackedInput::PackedInput(const float* from, uint32_t batch_, uint32_t features_)
    : batch(batch_), features(features_), values(features_ * row_stride(batch_)) {
  const size_t stride = row_stride(batch);
  kernels().pack(batch, features, from, values.data(), stride, uint32_t(stride));
}

void pack(const std::vector<Input>& inputs, uint32_t batch, uint32_t first, uint32_t size, float* x,
          size_t stride, const Kernels& k) {
  for (const Input& input : inputs) {
    if (input.stride)
      for (uint32_t f = 0; f < input.features; f++)
        std::copy_n(input.data + f * input.stride + first, size, x + f * stride);
    else
      k.pack(std::min(size, batch - first), input.features,
             input.data + size_t(first) * input.features, x, stride, size);
    x += input.features * stride;
  }
}

} // namespace sparl

// The samples of a pass in the layout of the kernels, divided into tiles.
#pragma once
#include "buffer.h"
#include "kernels.h"
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sparl {

uint32_t padded_samples(uint32_t batch, const Kernels&); // rounded up to a multiple of step

// Divides the samples of a pass into tiles with nearly equal numbers of vectors. A tile is narrow
// enough for the kernels, and the activations of the `widest` layer fit into the second-level
// cache, unless two vectors per row already exceed the cache. There are at least `parts` tiles, one
// for each available thread, unless a tile would then have fewer than two vectors, so that each
// weight would be loaded for too few samples.
struct Tiles {
  uint32_t samples, vectors, count, lanes;
  Tiles(uint32_t padded, size_t widest, uint32_t parts, const Kernels&);
  uint32_t first(uint32_t tile) const;
  uint32_t size(uint32_t tile) const { return first(tile + 1) - first(tile); }
  size_t stride() const; // floats per row of the widest tile, rounded up to whole 64-byte lines
};

// Returns the number of floats in a row of activations. A row is an odd number of 64-byte lines, so
// that the rows of a large batch do not map to the same cache sets.
size_t row_stride(uint32_t batch);

struct Input {
  const float* data; // [batch, features], row-major; packed: [features, stride]
  uint32_t features;
  size_t stride = 0; // floats; 0 unless packed
};

// Samples in the layout of the kernels, packed once for any number of passes.
struct PackedInput {
  uint32_t batch, features;
  Buffer values; // [features, row_stride(batch)], zeros beyond the batch

  PackedInput(const float* from, uint32_t batch, uint32_t features);
  Input input() const { return {values.data(), features, row_stride(batch)}; }
};

// Packs samples of a batch, from `first` on, in feature-major order, with zeros beyond the batch.
void pack(const std::vector<Input>& inputs, uint32_t batch, uint32_t first, uint32_t size, float* x,
          size_t stride, const Kernels&);

} // namespace sparl

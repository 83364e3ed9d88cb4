#include "bench.h"
#include "dispatch.h"
#include "tiles.h"
#include <algorithm>
#include <chrono>

namespace sparl {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class Call>
double mean_seconds(double least, const Call& call) {
  call(); // brings data into caches and maps pages
  for (uint32_t times = 1;; times *= 2) {
    const double start = now();
    for (uint32_t i = 0; i < times; i++) call();
    const double took = now() - start;
    if (took >= least) return took / times;
  }
}

Buffer filled(size_t floats) {
  Buffer buffer(floats);
  uint32_t state = 1;
  for (size_t i = 0; i < floats; i++) {
    state = state * 1664525u + 1013904223u;
    buffer.data()[i] = float(state >> 8) * 0x1p-24f - 0.5f;
  }
  return buffer;
}

} // namespace

double seconds_per_call(const Linear& layer, Timed what, uint32_t batch, double least) {
  const Kernels& k = kernels();
  const size_t stride = row_stride(batch);
  const uint32_t samples = padded_samples(batch, k);
  const Buffer values = filled(layer.connections() + 1), x = filled(layer.n_in * stride),
               y = filled(layer.n_out * stride);
  const PatternBlocks& blocks = what == Timed::input_gradient ? layer.transposed : layer.forward;
  const Tiles tiles(samples, std::max(layer.n_in, layer.n_out), 1, k);
  const auto product = [&](const float* in, float* out) {
    for (uint32_t i = 0; i < tiles.count; i++) {
      const uint32_t at = tiles.first(i);
      k.product(blocks.view(), values.data(), nullptr, in + at, out + at, nullptr, Epilogue::none,
                stride, tiles.size(i));
    }
  };
  return mean_seconds(least, [&] {
    if (what == Timed::forward) return product(x.data(), y.data());
    if (what == Timed::input_gradient) return product(y.data(), x.data());
    k.weight_gradient(blocks.view(), 0, blocks.block_count(), y.data(), x.data(), stride, samples,
                      values.data());
  });
}

double multiply_add_peak(double least) {
  constexpr uint64_t kTimes = 100000;
  const Kernels& k = kernels();
  uint64_t done = 0;
  const double seconds = mean_seconds(least, [&] { done = k.multiply_adds(kTimes); });
  return double(done) / seconds;
}

double seconds_of_loads(const Linear& layer, Timed what, uint32_t batch, double least) {
  const Kernels& k = kernels();
  const size_t stride = row_stride(batch);
  const uint32_t samples = padded_samples(batch, k);
  const BlocksView blocks =
      (what == Timed::input_gradient ? layer.transposed : layer.forward).view();
  const size_t columns = blocks.blocks[blocks.block_count].column;
  const Buffer x = filled(std::max(layer.n_in, layer.n_out) * stride);
  const Tiles tiles(samples, std::max(layer.n_in, layer.n_out), 1, k);
  return mean_seconds(least, [&] {
    if (what == Timed::weight_gradient) { // this kernel processes all samples at once
      k.column_total(columns, blocks.columns, x.data(), stride, samples);
      return;
    }
    for (uint32_t i = 0; i < tiles.count; i++)
      k.column_total(columns, blocks.columns, x.data() + tiles.first(i), stride, tiles.size(i));
  });
}

} // namespace sparl

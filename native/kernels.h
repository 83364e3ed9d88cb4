// The whole kernel interface, one page. Loops over arrays: nothing here knows what a
// policy is, allocates, throws or prints.
//
// Layout
//   Activations are feature-major: X[feature][sample]. A row has `stride` floats (a multiple
//   of 16, 64-byte aligned); samples are walked in vectors of `lanes` floats, of which the last
//   may be narrower: `samples` is the batch, rounded up to a multiple of `step`. Those beyond the
//   batch hold zeros in gradients, and anything finite in activations.
//   Connections are stored in kernel order: blocks of four rows; in a block, columns grouped
//   by which of the four rows they feed (the pattern, 1..15; a column with a pattern that is rare
//   in its block stands in two groups, each with some of its rows); in a group, ascending columns;
//   for a column, ascending rows. A value array is one float per connection in that order.
//
// One source (kernels.inl) is compiled once per instruction set; dispatch.cpp picks a table.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sparl {

inline constexpr uint32_t kBlockRows = 4;   // rows that share the loads of a block
inline constexpr uint32_t kStrideStep = 16; // floats: the widest vector

// First entries of a block in each of the three arrays; blocks[count] closes the last one.
struct Block {
  uint32_t group, column, value;
};

// A connectivity pattern as the kernels walk it; see pattern_blocks.h for its owner.
struct BlocksView {
  uint32_t rows;          // rows of the product
  uint32_t block_count;   // ceil(rows / 4)
  const Block* blocks;    // [block_count + 1]
  const uint32_t* groups; // number of columns << 4 | pattern
  const uint32_t* columns;
};

// What happens to a sum when it leaves the registers.
enum class Epilogue {
  none, // y = s
  relu, // y = s < 0 ? 0 : s            (NaN stays NaN)
  gate  // y = gate[r][b] > 0 ? s : 0   (derivative of a ReLU whose output was gate)
};

struct AdamStep {                   // one bias-corrected step, its scalars worked out by the caller
  float beta1, rest1, beta2, rest2; // rest = 1 - beta, rounded once
  float step_size, root_bias2, epsilon, weight_decay;
};

struct Kernels {
  const char* name;
  uint32_t lanes;       // floats per vector
  uint32_t step;        // floats in the narrowest vector: lanes, or half of them
  uint32_t max_vectors; // widest batch tile of `product`, in vectors

  // X[f][b] = from[b][f] for b < batch, and 0 up to `samples`; `from` is row-major.
  void (*pack)(uint32_t batch, uint32_t features, const float* from, float* x, size_t stride,
               uint32_t samples);

  // to[b][f] = y[f][b] for b < batch; `to` is row-major.
  void (*unpack)(uint32_t batch, uint32_t features, const float* y, size_t stride, float* to);

  // Y[r][b] = epilogue(bias[r] + sum_c W[r][c] X[c][b]) for `samples` <= lanes max_vectors samples
  // at x, y and gate. bias may be null. Each sum runs in kernel order, so a sample's result does
  // not depend on the batch it sits in.
  void (*product)(const BlocksView&, const float* values, const float* bias, const float* x,
                  float* y, const float* gate, Epilogue, size_t stride, uint32_t samples);

  // y = tanh(y), for `rows` rows.
  void (*tanh_rows)(uint32_t rows, float* y, size_t stride, uint32_t samples);

  // G[k] = sum_b dY[row_k][b] X[column_k][b] for the connections of blocks [first, last), in
  // kernel order; gradient has room for these alone.
  void (*weight_gradient)(const BlocksView&, uint32_t first, uint32_t last, const float* dy,
                          const float* x, size_t stride, uint32_t samples, float* gradient);

  // G[r] = sum_b dY[r][b] for `rows` rows.
  void (*bias_gradient)(uint32_t rows, const float* dy, size_t stride, uint32_t samples,
                        float* gradient);

  // u = mean + std noise, std = exp(l), with l = head clamped to [-20, 2], or -5 + 3.5 (tanh(head)
  // + 1) where `smooth`:  action = tanh(u);  log_density = log N(noise) - l - log(1 - action^2),
  // finite for every finite u;  slope = dl / dhead
  void (*squashed_normal)(size_t n, const float* mean, const float* head, const float* noise,
                          bool smooth, float* action, float* log_density, float* std, float* slope);

  // g += decay p;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;
  // p -= step_size m / (sqrt(v) / root_bias2 + epsilon)
  void (*adam)(size_t n, float* parameters, const float* gradient, float* m, float* v, AdamStep);

  // target = target + tau (online - target), and online itself at tau = 1
  void (*follow)(size_t n, float* target, const float* online, float tau);

  // target[i] = target[i] + tau (online[index[i]] - target[i]), and online itself at tau = 1
  void (*follow_gathered)(size_t n, float* target, const float* online, const uint32_t* index,
                          float tau);

  // Ascending indices i with |values[i]| <= limit (so a NaN is none), and their number. out has
  // room for n + kStrideStep.
  size_t (*collect_small)(size_t n, const float* values, float limit, uint32_t* out);

  // `times` rounds of independent multiply-adds in registers; returns their number, lanes counted.
  uint64_t (*multiply_adds)(uint64_t times);

  // Sum of the whole vectors of X[column], for `count` columns: what a product loads, and no more.
  float (*column_total)(size_t count, const uint32_t* columns, const float* x, size_t stride,
                        uint32_t samples);

  // out[i] = values[index[i]]
  void (*gather)(size_t n, const float* values, const uint32_t* index, float* out);
};

// Tables compiled into this binary; null where the architecture has no such build.
const Kernels* kernels_portable();
const Kernels* kernels_avx2();
const Kernels* kernels_avx512();
const Kernels* kernels_neon();

} // namespace sparl

// The kernel interface. Kernels are loops over arrays; they do not allocate, throw or print.
//
// Layout
//   Activations are feature-major: X[feature][sample]. A row has `stride` floats (a multiple
//   of 16, 64-byte aligned). Kernels process samples in vectors of `lanes` floats, the last of
//   which may be narrower: `samples` is the batch rounded up to a multiple of `step`. The samples
//   beyond the batch are zero in gradients and may have any finite value in activations.
//   Connections are stored in kernel order: in blocks of four rows; within a block, in groups of
//   columns that connect to the same rows (the pattern, a bit mask of the rows, 1..15), by
//   ascending pattern; within a group, by ascending column; within a column, by ascending row. A
//   column whose pattern is rare in its block is divided among two to four groups, each with some
//   of the column's rows. A value array has one float per connection in kernel order.
//
// kernels.inl is compiled once per instruction set; dispatch.cpp selects the resulting table.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sparl {

inline constexpr uint32_t kBlockRows = 4;   // rows that share the loads of a block
inline constexpr uint32_t kStrideStep = 16; // floats: the widest vector

// Indices of a block's first entries in the three arrays; blocks[block_count] marks the end.
struct Block {
  uint32_t group, column, value;
};

// A connectivity pattern in the form that the kernels read; pattern_blocks.h owns the arrays.
struct BlocksView {
  uint32_t rows;          // rows of the product
  uint32_t block_count;   // ceil(rows / kBlockRows)
  const Block* blocks;    // [block_count + 1]
  const uint32_t* groups; // number of columns << 4 | pattern
  const uint32_t* columns;
};

// The function applied to a sum before it is stored.
enum class Epilogue {
  none, // y = s
  relu, // y = s < 0 ? 0 : s            (NaN stays NaN)
  gate  // y = gate[r][b] > 0 ? s : 0   (derivative of a ReLU whose output was gate)
};

struct AdamStep {                   // scalars of the bias-corrected step t
  float beta1, rest1, beta2, rest2; // rest = 1 - beta, rounded once
  float step_size, root_bias2;      // learning rate / (1 - beta1^t), sqrt(1 - beta2^t)
  float epsilon, weight_decay;
};

struct Kernels {
  const char* name;
  uint32_t lanes;       // floats per vector
  uint32_t step;        // floats in the narrowest vector: lanes, or half of them
  uint32_t max_vectors; // widest batch tile of `product`, in vectors

  // X[f][b] = from[b][f] for b < batch, and 0 for batch <= b < samples; `from` is row-major.
  void (*pack)(uint32_t batch, uint32_t features, const float* from, float* x, size_t stride,
               uint32_t samples);

  // to[b][f] = y[f][b] for b < batch; `to` is row-major.
  void (*unpack)(uint32_t batch, uint32_t features, const float* y, size_t stride, float* to);

  // Y[r][b] = epilogue(bias[r] + sum_c W[r][c] X[c][b]) for `samples` <= lanes max_vectors samples
  // at x, y and gate. bias may be null; gate is null unless the epilogue is Epilogue::gate. Each
  // sum is computed in kernel order, so a sample's result does not depend on the rest of the batch.
  void (*product)(const BlocksView&, const float* values, const float* bias, const float* x,
                  float* y, const float* gate, Epilogue, size_t stride, uint32_t samples);

  // y = tanh(y), for `rows` rows.
  void (*tanh_rows)(uint32_t rows, float* y, size_t stride, uint32_t samples);

  // G[k] = sum_b dY[row_k][b] X[column_k][b] for the connections of blocks [first, last), in
  // kernel order; `gradient` has one entry for each of these connections.
  void (*weight_gradient)(const BlocksView&, uint32_t first, uint32_t last, const float* dy,
                          const float* x, size_t stride, uint32_t samples, float* gradient);

  // G[r] = sum_b dY[r][b] for `rows` rows.
  void (*bias_gradient)(uint32_t rows, const float* dy, size_t stride, uint32_t samples,
                        float* gradient);

  // u = mean + std noise, std = exp(l), with l = head clamped to [-20, 2], or -5 + 3.5 (tanh(head)
  // + 1) where `smooth`:  action = tanh(u);  log_density = log N(noise) - l - log(1 - action^2),
  // finite if |u| <= 1e38 and |noise| <= 1e19;  slope = dl / dhead
  void (*squashed_normal)(size_t n, const float* mean, const float* head, const float* noise,
                          bool smooth, float* action, float* log_density, float* std, float* slope);

  // g += decay p;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;
  // p -= step_size m / (sqrt(v) / root_bias2 + epsilon)
  void (*adam)(size_t n, float* parameters, const float* gradient, float* m, float* v, AdamStep);

  // target = target + tau (online - target); an exact copy of online if tau = 1
  void (*soft_update)(size_t n, float* target, const float* online, float tau);

  // target[i] = target[i] + tau (online[index[i]] - target[i]); an exact copy if tau = 1
  void (*soft_update_gathered)(size_t n, float* target, const float* online, const uint32_t* index,
                               float tau);

  // Writes in ascending order the indices i with |values[i]| <= limit (false for NaN) to `out`, and
  // returns their number. `out` must have room for n + kStrideStep entries.
  size_t (*collect_small)(size_t n, const float* values, float limit, uint32_t* out);

  // Executes `times` rounds of independent multiply-adds in registers, and returns the number of
  // multiply-adds of all lanes.
  uint64_t (*multiply_adds)(uint64_t times);

  // Returns the sum of the whole vectors of X[column] for `count` columns, which requires the same
  // loads as a product.
  float (*column_total)(size_t count, const uint32_t* columns, const float* x, size_t stride,
                        uint32_t samples);

  // out[i] = values[index[i]]
  void (*gather)(size_t n, const float* values, const uint32_t* index, float* out);
};

// The kernel tables in this binary. A table is null if the architecture does not support it.
const Kernels* kernels_portable();
const Kernels* kernels_avx2();
const Kernels* kernels_avx512();
const Kernels* kernels_neon();

} // namespace sparl

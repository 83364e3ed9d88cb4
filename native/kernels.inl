// The kernels, written with GCC/Clang vector extensions. A file that includes this one defines
//   SPARL_LANES      floats per vector (4, 8, 16)
//   SPARL_REGISTERS  vector registers (16, 32)
//   SPARL_NAME       the function that returns the kernel table, kernels_<isa>
//   SPARL_ISA_NAME   the name of the instruction set, as a string
// Everything except SPARL_NAME is in an anonymous namespace, and no inline library function is
// used, so that the linker cannot use code that was compiled for one instruction set in another's
// kernels.
#include "kernels.h"
#include <utility>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace sparl {
namespace {

constexpr uint32_t kLanes = SPARL_LANES;
constexpr bool kManyRegisters = SPARL_REGISTERS >= 32;
constexpr uint32_t kMaxVectors = kManyRegisters ? 4 : 2;

typedef float Vec
    __attribute__((vector_size(4 * SPARL_LANES), aligned(4 * SPARL_LANES), may_alias));
typedef float UnalignedVec __attribute__((vector_size(4 * SPARL_LANES), aligned(4), may_alias));
#define SPARL_INLINE inline __attribute__((always_inline))
#if SPARL_LANES == 16 // a half vector is faster than a full one, so a row may end with one
constexpr uint32_t kStep = 8;
#else
constexpr uint32_t kStep = SPARL_LANES;
#endif
typedef float Narrow __attribute__((vector_size(4 * kStep), aligned(4 * kStep), may_alias));

template <size_t... I>
SPARL_INLINE Narrow narrow(Vec v, std::index_sequence<I...>) {
  return __builtin_shufflevector(v, v, I...);
}
SPARL_INLINE Narrow narrow(Vec v) { return narrow(v, std::make_index_sequence<kStep>()); }

// A value in all lanes. Subtracting zero changes no value, so this is a single load; adding zero
// would turn -0 into +0 and therefore need an addition.
SPARL_INLINE Vec broadcast(float value) { return value - Vec{}; }

// clang-format off
#define SPARL_EACH_PATTERN(M) \
  M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
// clang-format on

// ---------------------------------------------------------------- pack
// X[f][b] = from[b][f]
// Tile     `lanes` samples x `lanes` features, transposed in registers: step S exchanges the
//          off-diagonal S x S blocks of every 2 S x 2 S block.
// Tail     the last tile overlaps the previous one; if there are fewer features than lanes, the
//          values are copied one by one.
// Rounding none.

template <uint32_t S, uint32_t Second, size_t... I>
SPARL_INLINE Vec exchanged(Vec a, Vec b, std::index_sequence<I...>) {
  return Second ? __builtin_shufflevector(a, b, (I & S ? kLanes + I : I + S)...)
                : __builtin_shufflevector(a, b, (I & S ? kLanes + I - S : I)...);
}

template <uint32_t S>
SPARL_INLINE void turn(Vec* v) {
  if constexpr (S < kLanes) {
    constexpr auto lanes = std::make_index_sequence<kLanes>();
#pragma GCC unroll 16
    for (uint32_t i = 0; i < kLanes; i++)
      if (!(i & S)) {
        const Vec a = v[i], b = v[i + S];
        v[i] = exchanged<S, 0>(a, b, lanes);
        v[i + S] = exchanged<S, 1>(a, b, lanes);
      }
    turn<S * 2>(v);
  }
}

void pack(uint32_t batch, uint32_t features, const float* from, float* x, size_t stride,
          uint32_t samples) {
  if (features < kLanes) {
    for (uint32_t f = 0; f < features; f++)
      for (uint32_t b = 0; b < samples; b++)
        x[f * stride + b] = b < batch ? from[size_t(b) * features + f] : 0.0f;
    return;
  }
  for (uint32_t b = 0; b < samples; b += kLanes)
    for (uint32_t next = 0; next < features; next += kLanes) {
      const uint32_t f = next + kLanes <= features ? next : features - kLanes;
      Vec v[kLanes];
#pragma GCC unroll 16
      for (uint32_t i = 0; i < kLanes; i++) {
        v[i] = Vec{};
        if (b + i < batch)
          v[i] = *reinterpret_cast<const UnalignedVec*>(from + size_t(b + i) * features + f);
      }
      turn<1>(v);
      float* to = x + f * stride + b;
      if (samples - b < kLanes) {
#pragma GCC unroll 16
        for (uint32_t i = 0; i < kLanes; i++)
          *reinterpret_cast<Narrow*>(to + i * stride) = narrow(v[i]);
      } else {
#pragma GCC unroll 16
        for (uint32_t i = 0; i < kLanes; i++) *reinterpret_cast<Vec*>(to + i * stride) = v[i];
      }
    }
}

// ---------------------------------------------------------------- unpack
// to[b][f] = y[f][b]
// The inverse of pack, with the same tiles, tail and rounding. The values of y beyond the batch are
// padding and are ignored.

void unpack(uint32_t batch, uint32_t features, const float* y, size_t stride, float* to) {
  if (features < kLanes) {
    for (uint32_t f = 0; f < features; f++)
      for (uint32_t b = 0; b < batch; b++) to[size_t(b) * features + f] = y[f * stride + b];
    return;
  }
  for (uint32_t b = 0; b < batch; b += kLanes)
    for (uint32_t next = 0; next < features; next += kLanes) {
      const uint32_t f = next + kLanes <= features ? next : features - kLanes;
      Vec v[kLanes];
#pragma GCC unroll 16
      for (uint32_t i = 0; i < kLanes; i++)
        v[i] = *reinterpret_cast<const Vec*>(y + (f + i) * stride + b);
      turn<1>(v);
#pragma GCC unroll 16
      for (uint32_t i = 0; i < kLanes; i++)
        if (b + i < batch)
          *reinterpret_cast<UnalignedVec*>(to + size_t(b + i) * features + f) = v[i];
    }
}

// ---------------------------------------------------------------- product
// Y[r][b] = epilogue(bias[r] + sum_c W[r][c] X[c][b])
// Tile     4 rows x T vectors of samples held in registers, T <= 4 (2 with 16 registers); if Tail
//          is set, a narrow vector follows them.
// Loads    T vectors of activations per column, shared by the pattern's rows: about .5 loads per
//          multiply-add for random connections at density .5, and about 1 at density .05.
// Tail     rows beyond the last are not in any pattern and are not stored; T and Tail are template
//          arguments, so that the last tile of a batch can be narrower.
// Threads  the caller may divide tiles among threads, because tiles are independent.
// Rounding one multiply-add per connection, in kernel order, starting from the bias; it is fused if
//          the instruction set supports it.

template <uint32_t T, bool Tail, uint32_t Pattern>
SPARL_INLINE void multiply_group(uint32_t count, const uint32_t* column, const float*& values,
                                 const float* x, size_t stride, Vec (&sum)[kBlockRows][T + 1],
                                 Narrow (&tail)[kBlockRows]) {
  for (uint32_t k = 0; k < count; k++) {
    const Vec* in = reinterpret_cast<const Vec*>(x + column[k] * stride);
    Vec xs[T + 1];
    Narrow end{};
#pragma GCC unroll 4
    for (uint32_t i = 0; i < T; i++) xs[i] = in[i];
    if (Tail) end = *reinterpret_cast<const Narrow*>(in + T);
    uint32_t j = 0;
#pragma GCC unroll 4
    for (uint32_t r = 0; r < kBlockRows; r++)
      if (Pattern >> r & 1) {
        const Vec w = broadcast(values[j++]);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < T; i++) sum[r][i] += w * xs[i];
        if (Tail) tail[r] += narrow(w) * end;
      }
    values += __builtin_popcount(Pattern);
  }
}

template <class V>
SPARL_INLINE V finished(V s, Epilogue epilogue, const V* gate) {
  if (epilogue == Epilogue::relu) return s < 0.0f ? V{} : s;
  if (epilogue == Epilogue::gate) return *gate > 0.0f ? s : V{};
  return s;
}

template <uint32_t T, bool Tail>
void product_tile(const BlocksView& m, const float* values, const float* bias, const float* x,
                  float* y, const float* gate, Epilogue epilogue, size_t stride) {
  for (uint32_t block = 0; block < m.block_count; block++) {
    const uint32_t first_row = block * kBlockRows;
    const uint32_t rows = m.rows - first_row < kBlockRows ? m.rows - first_row : kBlockRows;
    Vec sum[kBlockRows][T + 1];
    Narrow tail[kBlockRows];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < kBlockRows; r++) {
      const float start = bias && r < rows ? bias[first_row + r] : 0.0f;
#pragma GCC unroll 4
      for (uint32_t i = 0; i < T; i++) sum[r][i] = Vec{} + start;
      tail[r] = Narrow{} + start;
    }
    const uint32_t* column = m.columns + m.blocks[block].column;
    const float* value = values + m.blocks[block].value;
    for (uint32_t g = m.blocks[block].group; g < m.blocks[block + 1].group; g++) {
      const uint32_t count = m.groups[g] >> 4;
      switch (m.groups[g] & 15) {
#define SPARL_CASE(p)                                                       \
  case p:                                                                   \
    multiply_group<T, Tail, p>(count, column, value, x, stride, sum, tail); \
    break;
        SPARL_EACH_PATTERN(SPARL_CASE)
#undef SPARL_CASE
      }
      column += count;
    }
#pragma GCC unroll 4
    for (uint32_t r = 0; r < kBlockRows; r++) {
      if (r >= rows) break;
      Vec* out = reinterpret_cast<Vec*>(y + (first_row + r) * stride);
      const Vec* open = reinterpret_cast<const Vec*>(gate ? gate + (first_row + r) * stride : y);
#pragma GCC unroll 4
      for (uint32_t i = 0; i < T; i++) out[i] = finished(sum[r][i], epilogue, open + i);
      if (Tail)
        *reinterpret_cast<Narrow*>(out + T) =
            finished(tail[r], epilogue, reinterpret_cast<const Narrow*>(open + T));
    }
  }
}

void product(const BlocksView& m, const float* values, const float* bias, const float* x, float* y,
             const float* gate, Epilogue epilogue, size_t stride, uint32_t samples) {
  switch (samples * 2 / kLanes) {
#define SPARL_CASE(halves) \
  case halves:             \
    return product_tile<halves / 2, halves % 2>(m, values, bias, x, y, gate, epilogue, stride);
    SPARL_CASE(2)
    SPARL_CASE(4)
#if SPARL_LANES == 16
    SPARL_CASE(1)
    SPARL_CASE(3)
    SPARL_CASE(5)
    SPARL_CASE(7)
#endif
#if SPARL_REGISTERS >= 32
    SPARL_CASE(6)
    SPARL_CASE(8)
#endif
#undef SPARL_CASE
  }
}

// ---------------------------------------------------------------- sums of lanes
// Reduces up to `kLanes` vectors to one vector of their lane sums by a tree of shuffles in
// registers, so that a horizontal sum costs about three operations. The tree is the same for every
// vector, so the order of additions is fixed.

template <uint32_t Segment, uint32_t Half, size_t... I>
SPARL_INLINE Vec halves(Vec a, Vec b, std::index_sequence<I...>) {
  // Selects the first (Half = 0) or second (Half = 1) half of each segment of (a, b).
  return __builtin_shufflevector(
      a, b, (I / (Segment / 2) * Segment + Half * (Segment / 2) + I % (Segment / 2))...);
}

template <uint32_t Count, uint32_t Segment = 2>
SPARL_INLINE Vec lane_sums(const Vec* v) { // lane i < Count: the sum of the lanes of v[i]
  constexpr auto lanes = std::make_index_sequence<kLanes>();
  constexpr uint32_t kHalf = kLanes / Segment; // vectors that fit into one half of the tree
  Vec a, b;
  if constexpr (Segment == kLanes) {
    a = v[0];
    b = v[Count - 1];
  } else {
    a = lane_sums<(Count < kHalf ? Count : kHalf), Segment * 2>(v);
    if constexpr (Count > kHalf)
      b = lane_sums<Count - kHalf, Segment * 2>(v + kHalf);
    else
      b = a;
  }
  return halves<Segment, 0>(a, b, lanes) + halves<Segment, 1>(a, b, lanes);
}

template <uint32_t Count>
SPARL_INLINE void store_lane_sums(const Vec* v, float* out) { // out[i] = sum of the lanes of v[i]
  if constexpr (Count > kLanes) {
    store_lane_sums<kLanes>(v, out);
    store_lane_sums<Count - kLanes>(v + kLanes, out + kLanes);
  } else {
    const Vec sums = lane_sums<Count>(v);
    __builtin_memcpy(out, &sums, Count * sizeof(float));
  }
}

// ---------------------------------------------------------------- weight gradient
// G[k] = sum_b dY[row_k][b] X[column_k][b]
// Tile     the pattern's K rows x C columns of accumulators over the whole batch.
// Loads    K + C per K C multiply-adds: .5 per multiply-add for full patterns (.75 with 16
//          registers). Accumulators stay in registers, because a 64-byte store takes as long as two
//          multiply-adds.
// Tail     the remaining columns form a narrower tile; a narrow last vector is added first, so that
//          a narrow multiplication suffices for this vector.
// Threads  the caller may divide blocks among threads; one thread computes each connection's sum.
// Rounding each lane sums over the batch, first the narrow vector and then the others in order;
//          then the fixed tree of lane_sums adds the lanes.

template <size_t... I>
SPARL_INLINE Vec widened(Narrow v, std::index_sequence<I...>) { // padded with zeros
#if SPARL_LANES == 16
  return (Vec)_mm512_zextps256_ps512((__m256)v);
#else
  return __builtin_shufflevector(v, v, I...);
#endif
}
SPARL_INLINE Vec widened(Narrow v) { return widened(v, std::make_index_sequence<kLanes>()); }

template <uint32_t K, uint32_t C>
SPARL_INLINE void dots(const uint32_t* column, const Vec* const* ys, const float* x, size_t stride,
                       uint32_t samples, float* out) {
  const Vec* xs[C];
#pragma GCC unroll 8
  for (uint32_t c = 0; c < C; c++) xs[c] = reinterpret_cast<const Vec*>(x + column[c] * stride);
  const uint32_t vectors = samples / kLanes;
  Vec sum[C * K];
  uint32_t i = 0;
  if (samples % kLanes) {
    Narrow y[K];
#pragma GCC unroll 4
    for (uint32_t k = 0; k < K; k++) y[k] = *reinterpret_cast<const Narrow*>(ys[k] + vectors);
#pragma GCC unroll 8
    for (uint32_t c = 0; c < C; c++) {
      const Narrow v = *reinterpret_cast<const Narrow*>(xs[c] + vectors);
#pragma GCC unroll 4
      for (uint32_t k = 0; k < K; k++) sum[c * K + k] = widened(y[k] * v);
    }
  } else {
#pragma GCC unroll 8
    for (uint32_t c = 0; c < C; c++) {
      const Vec v = xs[c][0];
#pragma GCC unroll 4
      for (uint32_t k = 0; k < K; k++) sum[c * K + k] = ys[k][0] * v;
    }
    i = 1;
  }
#pragma GCC unroll 2 // otherwise GCC loads the vectors that K rows share once for each row
  for (; i < vectors; i++) {
    Vec y[K];
#pragma GCC unroll 4
    for (uint32_t k = 0; k < K; k++) y[k] = ys[k][i];
#pragma GCC unroll 8
    for (uint32_t c = 0; c < C; c++) {
      const Vec v = xs[c][i];
#pragma GCC unroll 4
      for (uint32_t k = 0; k < K; k++) sum[c * K + k] += y[k] * v;
    }
  }
  store_lane_sums<C * K>(sum, out);
}

template <uint32_t K>
void group_gradient(uint32_t count, const uint32_t* column, const Vec* const* rows, const float* x,
                    size_t stride, uint32_t samples, float* out) {
  constexpr uint32_t C = kManyRegisters ? (K <= 2 ? 8 : 4) : (K == 1 ? 8 : K == 2 ? 4 : 2);
  const Vec* ys[K];
#pragma GCC unroll 4
  for (uint32_t k = 0; k < K; k++) ys[k] = rows[k];
  for (; count >= C; count -= C, column += C, out += C * K)
    dots<K, C>(column, ys, x, stride, samples, out);
  switch (count) {
#define SPARL_CASE(c)                                                     \
  case c:                                                                 \
    if constexpr (c < C) dots<K, c>(column, ys, x, stride, samples, out); \
    break;
    SPARL_CASE(1)
    SPARL_CASE(2)
    SPARL_CASE(3)
    SPARL_CASE(4)
    SPARL_CASE(5)
    SPARL_CASE(6)
    SPARL_CASE(7)
#undef SPARL_CASE
  }
}

void weight_gradient(const BlocksView& m, uint32_t first, uint32_t last, const float* dy,
                     const float* x, size_t stride, uint32_t samples, float* out) {
  for (uint32_t block = first; block < last; block++) {
    const uint32_t* column = m.columns + m.blocks[block].column;
    const float* block_dy = dy + size_t(block) * kBlockRows * stride;
    for (uint32_t g = m.blocks[block].group; g < m.blocks[block + 1].group; g++) {
      const uint32_t count = m.groups[g] >> 4, pattern = m.groups[g] & 15;
      const Vec* rows[kBlockRows];
      uint32_t height = 0;
#pragma GCC unroll 4
      for (uint32_t r = 0; r < kBlockRows; r++) {
        rows[height] = reinterpret_cast<const Vec*>(block_dy + r * stride);
        height += pattern >> r & 1;
      }
      switch (height) {
        case 1:
          group_gradient<1>(count, column, rows, x, stride, samples, out);
          break;
        case 2:
          group_gradient<2>(count, column, rows, x, stride, samples, out);
          break;
        case 3:
          group_gradient<3>(count, column, rows, x, stride, samples, out);
          break;
        case 4:
          group_gradient<4>(count, column, rows, x, stride, samples, out);
          break;
      }
      column += count;
      out += count * height;
    }
  }
}

void bias_gradient(uint32_t rows, const float* dy, size_t stride, uint32_t samples,
                   float* gradient) {
  for (uint32_t r = 0; r < rows; r++) {
    const Vec* y = reinterpret_cast<const Vec*>(dy + r * stride);
    Vec sum{};
    const uint32_t vectors = samples / kLanes;
    if (samples % kLanes) sum = widened(*reinterpret_cast<const Narrow*>(y + vectors));
    for (uint32_t i = 0; i < vectors; i++) sum += y[i];
    store_lane_sums<1>(&sum, gradient + r);
  }
}

// ---------------------------------------------------------------- tanh
// y = tanh(y), computed as an odd polynomial for |y| < .625, and otherwise as
// 1 - 2 / (exp(2|y|) + 1) with the sign of y, where exp is a power of two times a polynomial
// (coefficients from tanhf and expf of Cephes). The error is at most 1.3 units in the last place of
// float32; tanh of NaN is NaN, and tanh of infinities is +-1.

typedef int32_t Lanes __attribute__((vector_size(4 * SPARL_LANES), may_alias));

SPARL_INLINE Vec exp_of(Vec x) { // for |x| <= 87
  const Vec nearest = x * 1.44269504088896341f + (x < 0.0f ? Vec{} - 0.5f : Vec{} + 0.5f);
  const Lanes power = __builtin_convertvector(nearest, Lanes);
  const Vec whole = __builtin_convertvector(power, Vec);
  const Vec rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f; // x - power log 2
  Vec e = Vec{} + 1.9875691500e-4f;
  e = e * rest + 1.3981999507e-3f;
  e = e * rest + 8.3334519073e-3f;
  e = e * rest + 4.1665795894e-2f;
  e = e * rest + 1.6666665459e-1f;
  e = e * rest + 5.0000001201e-1f;
  e = e * rest * rest + rest + 1.0f;
  const Lanes bits = (power + 127) << 23;
  Vec scale;
  __builtin_memcpy(&scale, &bits, sizeof scale);
  return e * scale;
}

SPARL_INLINE Vec tanh_of(Vec x) {
  const Vec size = x < 0.0f ? -x : x;
  const Vec square = x * x;
  Vec p = Vec{} + -5.70498872745e-3f;
  p = p * square + 2.06390887954e-2f;
  p = p * square - 5.37397155531e-2f;
  p = p * square + 1.33314422036e-1f;
  p = p * square - 3.33332819422e-1f;
  const Vec small = p * square * x + x;
  const Vec twice = size > 10.0f ? Vec{} + 20.0f : 2.0f * size; // tanh rounds to 1 from 9.02 on
  const Vec large = 1.0f - 2.0f / (exp_of(twice) + 1.0f);
  const Vec result = size < 0.625f ? small : x < 0.0f ? -large : large;
  return x == x ? result : x;
}

void tanh_rows(uint32_t rows, float* y, size_t stride, uint32_t samples) {
  for (uint32_t r = 0; r < rows; r++) {
    Vec* row = reinterpret_cast<Vec*>(y + r * stride);
    const uint32_t vectors = samples / kLanes;
    for (uint32_t i = 0; i < vectors; i++) row[i] = tanh_of(row[i]);
    if (samples % kLanes) {
      Narrow* end = reinterpret_cast<Narrow*>(row + vectors);
      *end = narrow(tanh_of(widened(*end)));
    }
  }
}

#include "squashed_normal.inl"
#include "flat_passes.inl"
#include "bench_loops.inl"

const Kernels table = {
    SPARL_ISA_NAME,  kLanes,       kStep,       kMaxVectors,          pack,
    unpack,          product,      tanh_rows,   weight_gradient,      bias_gradient,
    squashed_normal, adam,         soft_update, soft_update_gathered, collect_small,
    multiply_adds,   column_total, gather};

} // namespace

const Kernels* SPARL_NAME() { return &table; }

} // namespace sparl

// Loops that only the benchmark runs. kernels.inl includes this file and defines its vector types.

#if defined(__x86_64__) || defined(__i386__)
#define SPARL_VECTOR_REGISTER "x"
#elif defined(__aarch64__)
#define SPARL_VECTOR_REGISTER "w"
#else
#define SPARL_VECTOR_REGISTER "m"
#endif

uint64_t multiply_adds(uint64_t times) {
  constexpr uint32_t kChains = kManyRegisters ? 16 : 12;
  Vec sum[kChains], factor = Vec{} + 0.999f;
#pragma GCC unroll 16
  for (uint32_t i = 0; i < kChains; i++) sum[i] = Vec{} + float(i);
  for (uint64_t t = 0; t < times; t++) {
#pragma GCC unroll 16
    for (uint32_t i = 0; i < kChains; i++) {
      sum[i] = sum[i] * factor + factor;
      asm volatile("" : "+" SPARL_VECTOR_REGISTER(sum[i])); // prevents constant folding
    }
  }
  return times * kChains * kLanes;
}

float column_total(size_t count, const uint32_t* columns, const float* x, size_t stride,
                   uint32_t samples) {
  constexpr uint32_t kTogether = 4;
  const uint32_t vectors = samples / kLanes;
  Vec sum[kTogether]{};
  const auto at = [&](size_t k) { return reinterpret_cast<const Vec*>(x + columns[k] * stride); };
  size_t k = 0;
  for (; k + kTogether <= count; k += kTogether) {
    const Vec* in[kTogether];
    for (uint32_t c = 0; c < kTogether; c++) in[c] = at(k + c);
    for (uint32_t i = 0; i < vectors; i++) {
#pragma GCC unroll 4
      for (uint32_t c = 0; c < kTogether; c++) sum[c] += in[c][i];
    }
  }
  for (; k < count; k++)
    for (uint32_t i = 0; i < vectors; i++) sum[0] += at(k)[i];
  float all;
  const Vec one = sum[0] + sum[1] + (sum[2] + sum[3]);
  store_lane_sums<1>(&one, &all);
  return all;
}

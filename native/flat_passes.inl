// Element-wise loops over arrays, which the compiler vectorises. Operations are not reordered, so
// that results do not depend on how an array is divided among threads. kernels.inl includes this
// file.

void adam(size_t n, float* __restrict p, const float* __restrict gradient, float* __restrict m,
          float* __restrict v, AdamStep s) {
  for (size_t i = 0; i < n; i++) {
    const float g = gradient[i] + s.weight_decay * p[i];
    m[i] = s.beta1 * m[i] + s.rest1 * g;
    v[i] = s.beta2 * v[i] + s.rest2 * (g * g);
    p[i] -= s.step_size * m[i] / (__builtin_sqrtf(v[i]) / s.root_bias2 + s.epsilon);
  }
}

void soft_update(size_t n, float* __restrict target, const float* __restrict online, float tau) {
  if (tau == 1.0f) {
    for (size_t i = 0; i < n; i++) target[i] = online[i];
  } else {
    for (size_t i = 0; i < n; i++) target[i] += tau * (online[i] - target[i]);
  }
}

void soft_update_gathered(size_t n, float* __restrict target, const float* __restrict online,
                          const uint32_t* __restrict index, float tau) {
  if (tau == 1.0f) {
    for (size_t i = 0; i < n; i++) target[i] = online[index[i]];
  } else {
    for (size_t i = 0; i < n; i++) target[i] += tau * (online[index[i]] - target[i]);
  }
}

size_t collect_small(size_t n, const float* values, float limit, uint32_t* out) {
  size_t found = 0, i = 0;
#if defined(__AVX512F__)
  // This code uses intrinsics, because vector extensions cannot compress lanes under a mask.
  const __m512 most = _mm512_set1_ps(limit);
  __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (; i + 16 <= n; i += 16) {
    const __m512 magnitude = _mm512_abs_ps(_mm512_loadu_ps(values + i));
    const __mmask16 small = _mm512_cmp_ps_mask(magnitude, most, _CMP_LE_OQ);
    _mm512_storeu_si512(out + found, _mm512_maskz_compress_epi32(small, index));
    found += uint32_t(__builtin_popcount(small));
    index = _mm512_add_epi32(index, _mm512_set1_epi32(16));
  }
#endif
  for (; i < n; i++) {
    out[found] = uint32_t(i);
    found += __builtin_fabsf(values[i]) <= limit;
  }
  return found;
}

void gather(size_t n, const float* __restrict values, const uint32_t* __restrict index,
            float* __restrict out) {
  for (size_t i = 0; i < n; i++) out[i] = values[index[i]];
}

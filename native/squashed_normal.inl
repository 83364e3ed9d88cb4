// SAC's squashed Gaussian policy. kernels.inl includes this file and defines its vector types.
//
// log(1 - tanh(u)^2) = 2 (log 2 - |u| - log(1 + exp(-2 |u|))), where the last logarithm, of
// 1 + z in [1, 2], is computed with seven terms of its series in z / (2 + z) <= 1/3; the eighth
// term is less than 2e-8 of the sum.

SPARL_INLINE Vec log1p_of(Vec z) { // for z in [0, 1]
  const Vec t = z / (2.0f + z), square = t * t;
  Vec p = Vec{} + 1.0f / 13;
  p = p * square + 1.0f / 11;
  p = p * square + 1.0f / 9;
  p = p * square + 1.0f / 7;
  p = p * square + 1.0f / 5;
  p = p * square + 1.0f / 3;
  return 2.0f * t * (p * square + 1.0f);
}

void squashed_normal(size_t n, const float* mean, const float* head, const float* noise,
                     bool smooth, float* action, float* log_density, float* std, float* slope) {
  for (size_t i = 0; i < n; i += kLanes) {
    const size_t bytes = (n - i < kLanes ? n - i : kLanes) * sizeof(float);
    const auto load = [&](const float* from) {
      Vec v{};
      __builtin_memcpy(&v, from + i, bytes);
      return v;
    };
    const auto store = [&](Vec v, float* to) { __builtin_memcpy(to + i, &v, bytes); };
    const Vec x = load(head), eps = load(noise), t = tanh_of(x);
    const Vec clamped = x < -20.0f ? Vec{} - 20.0f : x > 2.0f ? Vec{} + 2.0f : x;
    const Vec l = smooth ? 3.5f * (t + 1.0f) - 5.0f : clamped;
    const Vec sigma = exp_of(l), u = load(mean) + sigma * eps;
    const Vec size = u < 0.0f ? -u : u;
    const Vec far = size > 43.0f ? Vec{} + 43.0f : size; // 1 + exp(-86) rounds to 1
    const Vec squash = 2.0f * (0.693147181f - size - log1p_of(exp_of(-2.0f * far)));
    store(tanh_of(u), action);
    store(-0.5f * eps * eps - l - 0.918938533f - squash, log_density);
    store(sigma, std);
    store(smooth ? 3.5f * (1.0f - t * t) : x == clamped ? Vec{} + 1.0f : Vec{}, slope);
  }
}

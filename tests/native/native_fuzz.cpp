// Hostile content in every array that a file can supply, for the sanitizers: patterns' positions
// and sizes (Layer, Stack), parameters, inputs, moments and steps (passes, Adam), replay rows,
// counts, kept states and ages (gather_windows), targets over unions of patterns (TargetUpdater),
// positions that are looked up (find_sorted), and the heads of a policy (squashed_normal). Arrays
// have exactly the documented size. Contradictory content must be rejected; all other content must
// be accepted.
//
//     native_fuzz [SECONDS [SEED [CASE]]]     CASE: only this one
#include "clipped_double_q.h"
#include "dispatch.h"
#include "flat.h"
#include "magnitude_target.h"
#include "n_step_windows.h"
#include "linear.h"
#include "network.h"
#include "pattern_blocks.h"
#include "squashed_normal.h"
#include "thread_pool.h"
#include <algorithm>
#include <cfloat>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#include <sanitizer/common_interface_defs.h>
#define SPARL_SANITIZED
#endif

using namespace sparl;

namespace {

using Floats = std::vector<float>;
using Counts = std::vector<int64_t>;

uint64_t seed = 0, number = 0; // those of the case
std::mt19937_64 random_bits;
int failures = 0;
auto pool = std::make_unique<ThreadPool>(1); // the number of its threads varies

void say_case() {
  std::fprintf(stderr, "again: native_fuzz 0 %llu %llu\n", static_cast<unsigned long long>(seed),
               static_cast<unsigned long long>(number));
}

void check(bool right, const char* what) {
  if (right) return;
  failures++;
  std::fprintf(stderr, "%s\n", what);
  say_case();
}

uint64_t below(uint64_t n) { return random_bits() % n; }
bool once_in(uint64_t n) { return below(n) == 0; }
template <class T>
T one_of(std::initializer_list<T> values) {
  return values.begin()[below(values.size())];
}

float any_float() {
  switch (below(12)) {
    case 0:
      return std::numeric_limits<float>::quiet_NaN();
    case 1:
      return one_of({INFINITY, -INFINITY});
    case 2:
      return one_of({FLT_MAX, -FLT_MAX, FLT_MIN, 1e-45f, 0.0f, -0.0f});
    case 3: { // any bits, including signalling NaNs
      const auto bits = uint32_t(random_bits());
      float value;
      std::memcpy(&value, &bits, sizeof value);
      return value;
    }
    default:
      return float(int32_t(random_bits() >> 40) - (1 << 23)) / float(1 << 23);
  }
}

Floats any_floats(size_t n) {
  Floats out(n);
  const bool tame = once_in(4); // otherwise only NaN would reach the end of a pass
  for (float& x : out) do
      x = any_float();
    while (tame && !(std::fabs(x) < 2));
  out.shrink_to_fit();
  return out;
}

int64_t any_count() {
  return one_of<int64_t>({0, 1, -1, 2, 255, INT32_MAX, int64_t(UINT32_MAX), int64_t(1) << 53,
                          INT64_MAX, INT64_MIN, int64_t(below(100)), int64_t(random_bits())});
}

// Swaps, repeats or replaces some entries, or changes none.
void harm(Counts& values) {
  if (values.empty()) return;
  for (uint64_t times = below(3); times; times--) {
    int64_t& value = values[below(values.size())];
    switch (below(3)) {
      case 0:
        std::swap(value, values[below(values.size())]);
        break;
      case 1:
        value = values[below(values.size())];
        break;
      default:
        value = any_count();
    }
  }
}

template <class Body>
bool rejects(const Body& body) {
  try {
    body();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

// ---------------------------------------------------------------- networks

Counts ascending(uint64_t end, double density) {
  Counts out;
  for (uint64_t p = 0; p < end; p++)
    if (double(below(1000)) < 1000 * density) out.push_back(int64_t(p));
  return out;
}

std::shared_ptr<const Layer> any_layer(uint32_t n_in, uint32_t n_out, uint32_t first) {
  Counts positions = ascending(uint64_t(n_in) * n_out, one_of({0.0, 0.02, 0.1, 0.5, 1.0}));
  if (once_in(4)) harm(positions);
  positions.shrink_to_fit();
  bool right = n_in && n_out && first <= n_in;
  for (size_t i = 0; i < positions.size(); i++)
    right &= positions[i] >= 0 && positions[i] < int64_t(n_in) * n_out &&
             (!i || positions[i] > positions[i - 1]);
  std::shared_ptr<const Layer> layer;
  const bool rejected = rejects([&] {
    layer = std::make_shared<const Linear>(n_in, n_out, positions.data(), positions.size(), first);
  });
  check(rejected != right,
        "a layer must be rejected if and only if its positions do not ascend or are out of range");
  return layer;
}

void fuzz_network() {
  const uint32_t members = uint32_t(1 + below(3)), depth = uint32_t(1 + below(4));
  std::vector<uint32_t> sizes(depth + 1);
  for (uint32_t& size : sizes) size = uint32_t(once_in(60) ? below(2000) : 1 + below(40));
  if (once_in(3)) sizes.back() = 1;
  const uint32_t first = once_in(3) ? uint32_t(below(sizes[0] + 2)) : 0;
  std::vector<std::vector<std::shared_ptr<const Layer>>> layers(members);
  for (auto& stack : layers)
    for (uint32_t l = 0; l < depth; l++) {
      const uint32_t n_in = once_in(100) ? uint32_t(below(50)) : sizes[l];
      stack.push_back(any_layer(n_in, sizes[l + 1], l ? 0 : first));
      if (!stack.back()) return;
    }
  bool fits = true;
  for (const auto& stack : layers)
    for (uint32_t l = 0; l < depth; l++)
      fits &= stack[l]->n_in == (l ? sizes[l] : layers[0][0]->n_in);
  std::shared_ptr<const Stack> stack;
  const Activation output = one_of({Activation::none, Activation::tanh});
  std::vector<Activation> activations(layers.empty() ? 0 : layers[0].size(), Activation::relu);
  if (!activations.empty()) activations.back() = output;
  const bool rejected =
      rejects([&] { stack = std::make_shared<const Stack>(layers, activations); });
  check(rejected != fits, "a stack must be rejected if and only if its layers do not fit together");
  if (!stack) return;

  const auto batch = uint32_t(1 + below(once_in(10) ? 300 : 20));
  const uint32_t n_in = stack->n_in(), n_out = stack->n_out(), split = uint32_t(below(n_in));
  Floats parameters = any_floats(stack->parameters());
  const Floats left = any_floats(size_t(batch) * split);
  const Floats right = any_floats(size_t(batch) * (n_in - split));
  const Floats output_gradient = any_floats(size_t(members) * batch * n_out);
  std::vector<Input> inputs{{right.data(), n_in - split}};
  if (split) inputs.insert(inputs.begin(), {left.data(), split});
  Floats y(output_gradient.size()), gradient(parameters.size());
  Floats of_inputs(size_t(members) * batch * stack->gradient_inputs());
  const Trace trace = stack->forward(*pool, parameters.data(), inputs, batch, y.data());
  stack->outputs(*pool, parameters.data(), inputs, batch, y.data());
  stack->gradient(*pool, parameters.data(), trace, output_gradient.data(), gradient.data(),
                  once_in(2) ? of_inputs.data() : nullptr);
  const auto member = uint32_t(below(members)), layer = uint32_t(below(depth));
  Floats dy(size_t(stack->layer(member, layer).n_out) * batch);
  Floats x(size_t(stack->layer(member, layer).n_in) * batch);
  stack->gradient_factors(*pool, parameters.data(), trace, output_gradient.data(), member, layer,
                          dy.data(), x.data());
  if (n_out == 1 && output == Activation::none) {
    Floats value(batch), slope(size_t(batch) * stack->gradient_inputs());
    const auto from = uint32_t(below(members));
    value_and_input_gradient(*stack, *pool, parameters.data(), inputs, batch, from,
                             uint32_t(1 + below(members - from)), any_float(), value.data(),
                             slope.data());
  }
  Floats m = any_floats(parameters.size()), v = any_floats(parameters.size());
  const uint64_t step = 1 + uint64_t(any_count());
  stack
      ->adam_step(*pool, parameters.data(), trace, output_gradient.data(), m.data(), v.data(),
                  adam_step(step ? step : 1, {1e-3, 0.9, 0.999, 1e-8, 2e-4}))
      .finish();
}

// ---------------------------------------------------------------- the replay

void fuzz_windows() {
  const size_t n_obs = 1 + below(5), n_act = 1 + below(3), capacity = below(30);
  const size_t stride = RingView::row_bytes(n_obs, n_act) + below(6) - (once_in(20) ? 1 : 0);
  const size_t size = once_in(20) ? below(40) : below(capacity + 1);
  const size_t count = below(70);
  const auto n = uint32_t(1 + below(9));
  std::vector<unsigned char> rows(capacity * stride); // flags of any value, NaN as rewards
  for (unsigned char& byte : rows) byte = (unsigned char)(once_in(3) ? random_bits() : below(2));
  const auto first = one_of<uint64_t>({0, below(100), uint64_t(1) << 62, uint64_t(INT64_MAX),
                                       UINT64_MAX - below(20), random_bits()});
  Counts states_of;
  for (size_t age = 0; age < size; age++)
    if (once_in(2)) states_of.push_back(int64_t(first + age));
  harm(states_of);
  states_of.shrink_to_fit();
  const Floats states = any_floats(states_of.size() * n_obs);
  Counts ages(count);
  for (int64_t& age : ages) age = size ? int64_t(below(size)) : 0;
  if (once_in(3)) harm(ages);
  const Floats powers = any_floats(n + 1);
  Floats observation(count * n_obs), action(count * n_act), reward(count), discount(count);
  Floats reached(count * n_obs), path(count * n * n_obs), path_discount(count * n);
  const bool paths = once_in(2);
  bool right = capacity && size <= capacity && stride >= RingView::row_bytes(n_obs, n_act);
  for (int64_t age : ages) right &= age >= 0 && uint64_t(age) < size;
  const bool rejected = rejects([&] {
    gather_windows(
        *pool,
        {capacity, stride, n_obs, n_act, rows.data(), first, size, states_of.size(),
         states_of.data(), states.data()},
        count, ages.data(),
        {n, powers.data(), observation.data(), action.data(), reward.data(), discount.data(),
         reached.data(), paths ? path.data() : nullptr, paths ? path_discount.data() : nullptr});
  });
  check(rejected != right,
        "windows must be rejected if and only if an age or a size is outside the ring");
}

void fuzz_find_sorted() {
  Counts in = ascending(below(300), 0.3), needles(below(50));
  for (int64_t& needle : needles) needle = once_in(5) ? any_count() : int64_t(below(300));
  if (once_in(2)) std::sort(needles.begin(), needles.end());
  if (once_in(2)) harm(in);
  in.shrink_to_fit();
  Counts index(needles.size());
  const auto found = std::make_unique<bool[]>(needles.size());
  find_sorted(in.data(), in.size(), needles.data(), needles.size(), index.data(), found.get());
  bool right = true;
  for (size_t i = 0; i < needles.size(); i++)
    right &= index[i] >= 0 && size_t(index[i]) <= in.size() &&
             (!found[i] || in[size_t(index[i])] == needles[i]);
  check(right, "find_sorted must return a needle's index, or state that the needle is absent");
}

// ---------------------------------------------------------------- flat arrays

void fuzz_follower() {
  std::vector<TargetUpdater::Piece> pieces;
  size_t target_size = 0, online_size = 0;
  bool right = true;
  for (uint64_t count = below(4); count; count--) {
    TargetUpdater::Piece piece{};
    piece.target_at = target_size, piece.online_at = online_size;
    piece.target_size = below(once_in(10) ? 9000 : 200);
    piece.online_size = piece.target_size;
    if (once_in(2)) {
      piece.online_size = below(piece.target_size + 2);
      piece.source.resize(once_in(20) ? below(300) : piece.target_size);
      piece.canonical.resize(piece.source.size());
      for (uint32_t& source : piece.source) source = uint32_t(below(piece.online_size + 1));
      if (once_in(8) && !piece.source.empty())
        piece.source[below(piece.source.size())] = uint32_t(any_count());
      for (uint32_t& index : piece.canonical)
        index = uint32_t(once_in(3) ? random_bits() : below(piece.target_size + 1));
      piece.budget = once_in(4) ? size_t(any_count()) : below(piece.target_size + 2);
    } else if (once_in(20)) {
      piece.online_size++;
    }
    const bool one_to_one = piece.source.empty();
    right &= one_to_one ? piece.target_size == piece.online_size
                        : piece.source.size() == piece.target_size;
    for (uint32_t source : piece.source) right &= source <= piece.online_size;
    target_size += piece.target_size;
    online_size += piece.online_size;
    pieces.push_back(std::move(piece));
  }
  Floats target = any_floats(target_size);
  const Floats online = any_floats(online_size);
  const bool rejected = rejects([&] {
    TargetUpdater updater(pieces);
    for (int i = 0; i < 2; i++)
      updater.update(*pool, target.data(), online.data(), one_of({0.0f, 0.005f, 1.0f})).finish();
  });
  check(rejected != right, "an updater must be rejected if and only if a piece contradicts itself");
}

void fuzz_flat() {
  const size_t rows = below(20), n = 1 + below(20), size = rows * n;
  const Floats heads = any_floats(2 * size), noise = any_floats(size), slopes = any_floats(size);
  Floats action(size), density(rows), deviation(size), slope(size), back(2 * size);
  squashed_normal(*pool, rows, n, heads.data(), noise.data(), once_in(2), action.data(),
                  density.data(), deviation.data(), slope.data());
  squashed_normal_gradient(rows, n, action.data(), deviation.data(), noise.data(), slope.data(),
                           slopes.data(), any_float(), back.data());
  Floats target = any_floats(size);
  soft_update(*pool, size, target.data(), noise.data(), any_float());
}

void fuzz_case() {
  random_bits.seed(seed * 1000003 + number);
  const auto isas = available_kernels();
  use_kernels(isas[below(isas.size())]->name);
  if (once_in(50)) pool = std::make_unique<ThreadPool>(uint32_t(1 + below(4)));
  switch (below(6)) {
    case 0:
    case 1:
      return fuzz_network();
    case 2:
      return fuzz_windows();
    case 3:
      return fuzz_find_sorted();
    case 4:
      return fuzz_follower();
    default:
      return fuzz_flat();
  }
}

} // namespace

int main(int argc, char** argv) {
#ifdef SPARL_SANITIZED
  __sanitizer_set_death_callback(say_case);
#endif
  const double seconds = argc > 1 ? std::atof(argv[1]) : 10;
  seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  const auto begun = std::chrono::steady_clock::now();
  const auto passed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  };
  if (argc > 3) {
    number = std::strtoull(argv[3], nullptr, 10);
    fuzz_case();
  } else {
    for (; passed() < seconds; number++) fuzz_case();
  }
  std::printf("%llu cases, %d failures\n", static_cast<unsigned long long>(number), failures);
  return failures ? 1 : 0;
}

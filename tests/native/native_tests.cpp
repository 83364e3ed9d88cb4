// The core's own tests, without Python. They compare every kernel on every instruction set with
// naive loops in double precision. Arrays have exactly the documented size, so that a sanitizer
// detects accesses beyond them. Tolerances are derived: nnz * eps * sum |w x| per sum, propagated
// through the layers.
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
#include <atomic>
#include <cfloat>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace sparl;

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true; // it does not support forks of processes with threads
#else
constexpr bool kThreadSanitizer = false;
#endif

int passed = 0, failed = 0;
std::string context; // names the current test; printed with a failure

void check(bool right, const char* what, int line) {
  right ? ++passed : ++failed;
  if (!right) std::printf("line %d: %s [%s]\n", line, what, context.c_str());
}
#define CHECK(condition) check(bool(condition), #condition, __LINE__)

template <class Error, class Body>
bool throws(const Body& body) {
  try {
    body();
  } catch (const Error&) {
    return true;
  }
  return false;
}

auto pool = std::make_unique<ThreadPool>(1); // all tests compute with this pool
void set_threads(uint32_t count) { pool = std::make_unique<ThreadPool>(count); }

// ---------------------------------------------------------------- data

using Floats = std::vector<float>;
using Positions = std::vector<int64_t>;

// Floats aligned like activations, without padding at the end; initially all `fill`.
class Aligned {
 public:
  explicit Aligned(size_t n, float fill = 0.0f)
      : data_(static_cast<float*>(std::aligned_alloc(64, std::max<size_t>(64, n * 4)))), n_(n) {
    std::fill_n(data_.get(), n, fill);
  }
  float* data() const { return data_.get(); }
  float& operator[](size_t i) const { return data_.get()[i]; }
  size_t size() const { return n_; }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> data_;
  size_t n_;
};

std::mt19937 random_bits(1);

float uniform() { return float(int32_t(random_bits() >> 8) - (1 << 23)) / float(1 << 23); }

Floats random_floats(size_t n, float scale = 1.0f) {
  Floats out(n);
  for (float& x : out) x = scale * uniform();
  return out;
}

Positions random_positions(uint32_t n_in, uint32_t n_out, double density) {
  const int64_t size = int64_t(n_in) * n_out;
  const auto count = size_t(density * double(size) + 0.5);
  const bool most = count > size_t(size) / 2; // then draw the omitted positions
  std::set<int64_t> drawn;
  while (drawn.size() < (most ? size_t(size) - count : count))
    drawn.insert(int64_t((uint64_t(random_bits()) << 32 | random_bits()) % uint64_t(size)));
  if (!most) return Positions(drawn.begin(), drawn.end());
  Positions out;
  for (int64_t p = 0; p < size; p++)
    if (!drawn.count(p)) out.push_back(p);
  return out;
}

std::shared_ptr<const Linear> layer_of(uint32_t n_in, uint32_t n_out, const Positions& positions,
                                       uint32_t first_gradient_input = 0) {
  return std::make_shared<const Linear>(n_in, n_out, positions.data(), positions.size(),
                                        first_gradient_input);
}

uint32_t bits(float x) {
  uint32_t out;
  std::memcpy(&out, &x, sizeof out);
  return out;
}

bool same(const Floats& a, const Floats& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](float x, float y) { return bits(x) == bits(y); });
}

// The exact result, and a bound on float's error.
struct Real {
  double value = 0, bound = 0;
  double most() const { return std::fabs(value) + bound; }
};
using Reals = std::vector<Real>;

bool near(float got, const Real& wanted) {
  return std::isfinite(got) && std::fabs(got - wanted.value) <= wanted.bound;
}
bool near(const Floats& got, const Reals& wanted) {
  if (got.size() != wanted.size()) return false;
  for (size_t i = 0; i < got.size(); i++)
    if (!near(got[i], wanted[i])) return false;
  return true;
}

// A sum of products in progress: its value, its magnitude, and the error of its terms.
struct Sum {
  double value = 0, size = 0, carried = 0;
  uint32_t terms = 1;
  void add(const Real& a, const Real& b) {
    value += a.value * b.value;
    size += a.most() * b.most();
    carried += a.bound * b.most() + std::fabs(a.value) * b.bound;
    terms++;
  }
  Real done() const { return {value, terms * double(FLT_EPSILON) * size + carried}; }
};

// ---------------------------------------------------------------- pattern blocks

struct Connection {
  uint32_t row, column;
};

// Checks the order in which the kernels visit the connections, and returns them in this order.
std::vector<Connection> in_kernel_order(const PatternBlocks& m, uint32_t columns) {
  std::vector<Connection> out;
  bool ordered = true, rows_exist = true;
  CHECK(m.block_count() == (m.rows + kBlockRows - 1) / kBlockRows);
  for (uint32_t b = 0; b < m.block_count(); b++) {
    ordered &= m.block[b].value == out.size();
    uint32_t at = m.block[b].column, last_pattern = 0;
    for (uint32_t g = m.block[b].group; g < m.block[b + 1].group; g++) {
      const uint32_t count = m.group[g] >> 4, pattern = m.group[g] & 15;
      ordered &= count > 0 && pattern > last_pattern;
      last_pattern = pattern;
      for (uint32_t i = 0; i < count; i++, at++) {
        ordered &= m.column[at] < columns && (i == 0 || m.column[at] > m.column[at - 1]);
        for (uint32_t r = 0; r < kBlockRows; r++)
          if (pattern >> r & 1) {
            rows_exist &= b * kBlockRows + r < m.rows;
            out.push_back({b * kBlockRows + r, m.column[at]});
          }
      }
    }
    ordered &= at == m.block[b + 1].column;
  }
  CHECK(ordered);
  CHECK(rows_exist);
  CHECK(m.block.back().value == out.size());
  CHECK(m.block.back().group == m.group.size());
  CHECK(m.block.back().column == m.column.size());
  return out;
}

void test_pattern_blocks(uint32_t n_in, uint32_t n_out, double density, uint32_t first) {
  context = "blocks of " + std::to_string(n_in) + " x " + std::to_string(n_out) + " at " +
            std::to_string(density);
  const Positions positions = random_positions(n_in, n_out, density);
  const auto layer = layer_of(n_in, n_out, positions, first);
  CHECK(layer->connections() == positions.size());

  const auto forward = in_kernel_order(layer->forward, n_in);
  CHECK(forward.size() == positions.size());
  std::vector<int> seen(positions.size(), 0);
  bool consistent = true;
  for (size_t slot = 0; slot < forward.size(); slot++) {
    const uint32_t index = layer->canonical_index[slot];
    consistent &= index < positions.size();
    if (!consistent) break;
    seen[index]++;
    consistent &= positions[index] == int64_t(forward[slot].row) * n_in + forward[slot].column;
  }
  CHECK(consistent);
  CHECK(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));

  const auto transposed = in_kernel_order(layer->transposed, n_out);
  CHECK(layer->transposed.rows == n_in - first);
  CHECK(transposed.size() == layer->transposed_slots.size());
  std::fill(seen.begin(), seen.end(), 0);
  for (size_t slot = 0; slot < transposed.size() && consistent; slot++) {
    const uint32_t forward_slot = layer->transposed_slots[slot];
    consistent &= forward_slot < forward.size();
    if (!consistent) break;
    seen[forward_slot]++;
    consistent &= forward[forward_slot].row == transposed[slot].column &&
                  forward[forward_slot].column == transposed[slot].row + first;
  }
  CHECK(consistent);
  for (size_t slot = 0; slot < forward.size(); slot++)
    consistent &= seen[slot] == (forward[slot].column >= first ? 1 : 0);
  CHECK(consistent);
}

// ---------------------------------------------------------------- kernels, one by one

constexpr float kUntouched = 12345.0f;

void test_product_and_gradients(const Kernels& k, uint32_t n_in, uint32_t n_out, double density,
                                uint32_t batch) {
  context = std::string(k.name) + " " + std::to_string(n_in) + " x " + std::to_string(n_out) +
            " at " + std::to_string(density) + ", " + std::to_string(batch) + " samples";
  const auto layer = layer_of(n_in, n_out, random_positions(n_in, n_out, density));
  const auto order = in_kernel_order(layer->forward, n_in);
  const size_t stride =
      (batch / kStrideStep + 1) * kStrideStep; // there is always space after the batch
  const Floats values = random_floats(order.size()), bias = random_floats(n_out);
  Aligned x(n_in * stride), gate(n_out * stride), dy(n_out * stride);
  for (size_t i = 0; i < x.size(); i++) x[i] = uniform();
  for (size_t i = 0; i < gate.size(); i++) gate[i] = std::max(uniform(), 0.0f);
  for (size_t i = 0; i < dy.size(); i++) dy[i] = uniform();

  // product: tile by tile, with and without a bias, every epilogue
  for (const bool with_bias : {false, true}) {
    std::vector<Sum> sums(n_out * batch);
    for (uint32_t r = 0; with_bias && r < n_out; r++)
      for (uint32_t b = 0; b < batch; b++) sums[r * batch + b].add({bias[r]}, {1.0});
    for (size_t i = 0; i < order.size(); i++)
      for (uint32_t b = 0; b < batch; b++)
        sums[order[i].row * batch + b].add({values[i]}, {x[order[i].column * stride + b]});
    for (const Epilogue epilogue : {Epilogue::none, Epilogue::relu, Epilogue::gate}) {
      const Aligned y(n_out * stride, kUntouched);
      for (uint32_t b = 0; b < batch; b += k.max_vectors * k.lanes)
        k.product(layer->forward.view(), values.data(), with_bias ? bias.data() : nullptr,
                  x.data() + b, y.data() + b, gate.data() + b, epilogue, stride,
                  std::min(k.max_vectors * k.lanes, batch - b));
      bool right = true, untouched = true;
      for (uint32_t r = 0; r < n_out; r++)
        for (size_t b = 0; b < stride; b++) {
          const float got = y[r * stride + b];
          if (b >= batch) {
            untouched &= got == kUntouched;
            continue;
          }
          Real wanted = sums[r * batch + b].done();
          if (epilogue == Epilogue::relu) wanted.value = std::max(wanted.value, 0.0);
          if (epilogue == Epilogue::gate && !(gate[r * stride + b] > 0)) wanted = {};
          right &= near(got, wanted);
          if (epilogue == Epilogue::relu) right &= got >= 0;
        }
      CHECK(right);
      CHECK(untouched);
    }
  }

  // weight_gradient: all blocks at once, then in pieces
  std::vector<Sum> sums(order.size());
  for (size_t i = 0; i < order.size(); i++)
    for (uint32_t b = 0; b < batch; b++)
      sums[i].add({dy[order[i].row * stride + b]}, {x[order[i].column * stride + b]});
  Reals wanted;
  for (Sum& sum : sums) {
    sum.terms += 4; // the tree that adds up the lanes
    wanted.push_back(sum.done());
  }
  const BlocksView view = layer->forward.view();
  Floats whole(order.size(), kUntouched);
  k.weight_gradient(view, 0, view.block_count, dy.data(), x.data(), stride, batch, whole.data());
  CHECK(near(whole, wanted));
  for (const uint32_t step : {1u, 3u}) {
    Floats pieces(order.size(), kUntouched);
    for (uint32_t b = 0; b < view.block_count; b += step) {
      const uint32_t last = std::min(b + step, view.block_count);
      const Floats before = pieces;
      k.weight_gradient(view, b, last, dy.data(), x.data(), stride, batch,
                        pieces.data() + view.blocks[b].value);
      CHECK(std::equal(pieces.begin(), pieces.begin() + view.blocks[b].value, before.begin()));
      CHECK(std::equal(pieces.begin() + view.blocks[last].value, pieces.end(),
                       before.begin() + view.blocks[last].value));
    }
    CHECK(same(pieces, whole));
  }

  const size_t columns = view.blocks[view.block_count].column;
  Sum all;
  for (size_t c = 0; c < columns; c++)
    for (uint32_t b = 0; b < batch / k.lanes * k.lanes; b++)
      all.add({x[view.columns[c] * stride + b]}, {1.0});
  CHECK(near(k.column_total(columns, view.columns, x.data(), stride, batch), all.done()));

  Floats of_bias(n_out, kUntouched);
  k.bias_gradient(n_out, dy.data(), stride, batch, of_bias.data());
  Reals bias_wanted;
  for (uint32_t r = 0; r < n_out; r++) {
    Sum sum;
    for (uint32_t b = 0; b < batch; b++) sum.add({dy[r * stride + b]}, {1.0});
    sum.terms += 4;
    bias_wanted.push_back(sum.done());
  }
  CHECK(near(of_bias, bias_wanted));
}

void test_relu_keeps_nan(const Kernels& k) {
  context = k.name;
  const auto layer = layer_of(2, 1, {0, 1});
  const Floats values{1, 1};
  Aligned x(2 * kStrideStep), y(kStrideStep);
  x[1] = NAN;
  x[kStrideStep + 2] = -1;
  k.product(layer->forward.view(), values.data(), nullptr, x.data(), y.data(), nullptr,
            Epilogue::relu, kStrideStep, k.lanes);
  CHECK(y[0] == 0);
  CHECK(std::isnan(y[1]));
  CHECK(y[2] == 0);
}

void test_flat_kernels(const Kernels& k, size_t n) {
  context = std::string(k.name) + " " + std::to_string(n) + " floats";
  const double eps = FLT_EPSILON;
  // The values start one float later, since a slice of an array need not be aligned to a vector.
  const Floats p0 = random_floats(n + 1), g = random_floats(n + 1), m0 = random_floats(n + 1);
  Floats v0 = random_floats(n + 1);
  for (float& v : v0) v = std::fabs(v) + 0.01f;
  AdamStep s;
  s.beta1 = 0.9f, s.rest1 = 0.1f, s.beta2 = 0.99f, s.rest2 = 0.01f;
  s.step_size = 0.01f, s.root_bias2 = 0.5f, s.epsilon = 1e-8f, s.weight_decay = 0.1f;
  Floats p = p0, m = m0, v = v0;
  k.adam(n, p.data() + 1, g.data() + 1, m.data() + 1, v.data() + 1, s);
  bool adam_right = p[0] == p0[0] && m[0] == m0[0] && v[0] == v0[0];
  for (size_t i = 1; i <= n; i++) {
    const double decay = s.weight_decay;
    const double size = std::fabs(g[i]) + decay * std::fabs(p0[i]), grad = g[i] + decay * p0[i];
    const double m1 = double(s.beta1) * m0[i] + s.rest1 * grad;
    const double v1 = double(s.beta2) * v0[i] + s.rest2 * grad * grad;
    const double m_bound = 4 * eps * (s.beta1 * std::fabs(m0[i]) + size);
    const double v_bound = 4 * eps * (s.beta2 * v0[i] + size * size);
    const double below = std::sqrt(v1) / s.root_bias2 + s.epsilon, step = s.step_size * m1 / below;
    adam_right &= near(m[i], {m1, m_bound}) && near(v[i], {v1, v_bound});
    adam_right &=
        near(p[i], {p0[i] - step, std::fabs(step) * (v_bound / v1 + 6 * eps) +
                                      s.step_size * m_bound / below + eps * std::fabs(p0[i])});
  }
  CHECK(adam_right);

  std::vector<uint32_t> index(n);
  for (auto& i : index) i = 1 + uint32_t(random_bits() % n);
  for (const float tau : {0.0f, 0.25f, 1.0f}) {
    Floats one_to_one = p0, gathered = p0;
    k.soft_update(n, one_to_one.data() + 1, g.data() + 1, tau);
    k.soft_update_gathered(n, gathered.data() + 1, g.data(), index.data(), tau);
    bool right = one_to_one[0] == p0[0] && gathered[0] == p0[0];
    for (size_t i = 1; i <= n; i++) {
      const auto moved = [&](double online) -> Real {
        const double t = p0[i];
        return {t + tau * (online - t), 4 * eps * (std::fabs(t) + tau * std::fabs(online - t))};
      };
      right &= near(one_to_one[i], moved(g[i])) && near(gathered[i], moved(g[index[i - 1]]));
      if (tau == 1.0f) right &= one_to_one[i] == g[i];
    }
    CHECK(right);
  }

  Floats out(n, kUntouched);
  k.gather(n, p0.data(), index.data(), out.data());
  bool right = true;
  for (size_t i = 0; i < n; i++) right &= out[i] == p0[index[i]];
  CHECK(right);
}

// Tests the bias corrections and the kernel's scalars over many steps. The betas 0.9 and 0.999 are
// not exact floats.
void test_adam() {
  context = std::string(kernels().name) + " adam";
  Floats p{1.0f}, m{0.0f}, v{0.0f};
  double naive_p = 1, naive_m = 0, naive_v = 0;
  for (uint64_t step = 1; step <= 20; step++) {
    const Floats g{1.0f + uniform() / 2};
    kernels().adam(1, p.data(), g.data(), m.data(), v.data(),
                   adam_step(step, {0.01, 0.9, 0.999, 1e-8, 0.1}));
    const double grad = g[0] + 0.1 * naive_p;
    naive_m = 0.9 * naive_m + 0.1 * grad;
    naive_v = 0.999 * naive_v + 0.001 * grad * grad;
    naive_p -= 0.01 * naive_m / (1 - std::pow(0.9, double(step))) /
               (std::sqrt(naive_v / (1 - std::pow(0.999, double(step)))) + 1e-8);
    const double bound = 4 * double(FLT_EPSILON) * double(step); // all gradients are positive
    CHECK(near(m[0], {naive_m, bound * naive_m}));
    CHECK(near(v[0], {naive_v, bound * naive_v}));
    CHECK(near(p[0], {naive_p, bound}));
  }
}

// Compares actions of a squashed Gaussian with the formulas in double precision, for whole vectors,
// tails, and rows that are not aligned to a vector.
void test_squashed_normal() {
  for (const size_t rows : {1u, 3u, 100u, 1200u})
    for (const size_t n : {1u, 6u, 17u})
      for (const bool smooth : {false, true}) {
        context = std::string(kernels().name) + " squashed normal " + std::to_string(rows) + "x" +
                  std::to_string(n);
        Floats heads = random_floats(rows * 2 * n);
        const Floats noise = random_floats(rows * n);
        Floats action(rows * n, kUntouched), density(rows, kUntouched), std(action), slope(action);
        squashed_normal(*pool, rows, n, heads.data(), noise.data(), smooth, action.data(),
                        density.data(), std.data(), slope.data());
        bool right = true;
        for (size_t r = 0; r < rows; r++) {
          double sum = 0;
          for (size_t i = 0; i < n; i++) {
            const double mean = heads[r * 2 * n + i], head = heads[r * 2 * n + n + i];
            const double log_std = smooth ? -5 + 3.5 * (std::tanh(head) + 1) : head;
            const double deviation = std::exp(log_std), eps = noise[r * n + i];
            const double u = mean + deviation * eps, a = std::tanh(u);
            sum += -0.5 * eps * eps - log_std - 0.5 * std::log(2 * M_PI) - std::log(1 - a * a);
            right &= std::fabs(action[r * n + i] - a) < 1e-5;
            right &= std::fabs(std[r * n + i] - deviation) < 1e-5 * deviation;
          }
          right &= std::fabs(density[r] - sum) < 1e-3 * (1 + std::fabs(sum));
        }
        CHECK(right);
      }
}

// Compares n-step windows with windows built transition by transition, in a ring that has wrapped
// around.
void test_windows() {
  for (const uint32_t count : {1u, 3u})
    for (const size_t capacity : {1u, 2u, 7u, 50u, 200u})
      for (const uint32_t n : {1u, 3u, 8u}) {
        context = "windows of " + std::to_string(n) + " in " + std::to_string(capacity) + ", " +
                  std::to_string(count) + " threads";
        set_threads(count);
        const size_t n_obs = 3, n_act = 2, size = capacity - capacity / 4;
        const size_t stride = 28;
        const uint64_t first = 3 * capacity + capacity / 2;
        std::vector<unsigned char> rows(capacity * stride);
        const auto row = [&](size_t age) {
          return rows.data() + (first + age) % capacity * stride;
        };
        std::vector<int64_t> states_of;
        Floats states;
        const auto add = [&](size_t age) {
          const Floats values = random_floats(n_obs + n_act + 1);
          std::memcpy(row(age), values.data(), values.size() * sizeof(float));
          unsigned char* flags = row(age) + values.size() * sizeof(float);
          flags[0] = random_bits() % 5 == 0;
          flags[1] = flags[0] || random_bits() % 5 == 0;
          flags[2] = age + 1 == size || flags[1];
          if (!flags[2]) return;
          states_of.push_back(int64_t(first + age));
          for (float value : random_floats(n_obs)) states.push_back(value);
        };
        for (size_t age = 0; age < size; age++) add(age);
        std::vector<int64_t> ages(size);
        std::iota(ages.begin(), ages.end(), 0);
        Floats powers(n + 1);
        for (uint32_t k = 0; k <= n; k++) powers[k] = float(std::pow(0.9, k));
        Floats observation(size * n_obs), action(size * n_act), reward(size), discount(size);
        Floats reached(size * n_obs), path(size * n * n_obs), path_discount(size * n);
        gather_windows(*pool,
                       {capacity, stride, n_obs, n_act, rows.data(), first, size, states_of.size(),
                        states_of.data(), states.data()},
                       size, ages.data(),
                       {n, powers.data(), observation.data(), action.data(), reward.data(),
                        discount.data(), reached.data(), path.data(), path_discount.data()});

        const auto number = [&](size_t age, size_t i) {
          float value;
          std::memcpy(&value, row(age) + i * sizeof(float), sizeof value);
          return value;
        };
        const auto flag = [&](size_t age, size_t i) { return row(age)[24 + i] != 0; };
        const auto state = [&](size_t age, size_t i) { // the state that this transition reached
          if (!flag(age, 2)) return number(age + 1, i);
          const auto at = std::find(states_of.begin(), states_of.end(), int64_t(first + age));
          return states[size_t(at - states_of.begin()) * n_obs + i];
        };
        bool right = true;
        for (size_t age = 0; age < size; age++) {
          float total = 0;
          size_t m = 0, last = 0;
          do {
            last = age + m;
            total += powers[m] * number(last, n_obs + n_act);
            m++;
          } while (m < n && !flag(last, 1) && age + m < size);
          right &= near(reward[age], {total, 1e-5});
          right &= discount[age] == (flag(last, 0) ? 0.0f : powers[m]);
          for (size_t i = 0; i < n_act; i++)
            right &= action[age * n_act + i] == number(age, n_obs + i);
          for (size_t i = 0; i < n_obs; i++) {
            right &= observation[age * n_obs + i] == number(age, i);
            right &= reached[age * n_obs + i] == state(last, i);
            for (size_t k = 0; k < n; k++) {
              const size_t step = k < n - m ? 0 : k - (n - m);
              right &= path[(age * n + k) * n_obs + i] == state(age + step, i);
            }
          }
          for (size_t k = 0; k < n; k++) {
            const float wanted = k < n - m   ? 0.0f
                                 : k + 1 < n ? powers[k + 1 - (n - m)]
                                             : discount[age];
            right &= path_discount[age * n + k] == wanted;
          }
        }
        CHECK(right);
      }
  set_threads(1);
}

void test_find_sorted() {
  context = "find sorted";
  for (const size_t size : {0u, 1u, 2u, 33u, 1000u}) {
    std::vector<int64_t> in(size), of(2 * size + 3), index(of.size());
    for (size_t i = 0; i < size; i++) in[i] = int64_t(i) * 3 + int64_t(random_bits() % 3);
    for (auto& needle : of) needle = int64_t(random_bits() % (3 * size + 5)) - 2;
    if (size % 2) std::sort(of.begin(), of.end());
    const auto found = std::make_unique<bool[]>(of.size());
    find_sorted(in.data(), size, of.data(), of.size(), index.data(), found.get());
    bool right = true;
    for (size_t i = 0; i < of.size(); i++) {
      const auto at = std::lower_bound(in.begin(), in.end(), of[i]);
      right &= index[i] == at - in.begin() && found[i] == (at != in.end() && *at == of[i]);
    }
    CHECK(right);
  }
}

// ---------------------------------------------------------------- networks

struct Shape {
  std::vector<uint32_t> sizes;
  double density;
  uint32_t batch, members = 1;
  Activation output = Activation::none;
  uint32_t first_gradient_input = 0;
};

constexpr AdamSettings kAdam{1e-3, 0.9, 0.999, 1e-8, 2e-4};

struct Network {
  Shape shape;
  std::vector<std::vector<Positions>> positions; // [member][layer]
  std::shared_ptr<const Stack> stack;
  Floats parameters, x, output_gradient;

  explicit Network(const Shape& s) : shape(s) {
    std::vector<std::vector<std::shared_ptr<const Layer>>> layers(s.members);
    positions.resize(s.members);
    for (uint32_t e = 0; e < s.members; e++)
      for (size_t l = 0; l + 1 < s.sizes.size(); l++) {
        const uint32_t n_in = s.sizes[l], n_out = s.sizes[l + 1];
        positions[e].push_back(random_positions(n_in, n_out, s.density * (e ? 0.7 : 1.0)));
        layers[e].push_back(layer_of(n_in, n_out, positions[e][l], l ? 0 : s.first_gradient_input));
      }
    std::vector<Activation> activations(depth(), Activation::relu);
    activations.back() = s.output;
    stack = std::make_shared<const Stack>(layers, activations);
    parameters = random_floats(stack->parameters());
    x = random_floats(size_t(s.batch) * s.sizes.front());
    output_gradient = random_floats(size_t(s.members) * s.batch * s.sizes.back());
  }

  uint32_t depth() const { return uint32_t(shape.sizes.size()) - 1; }
  size_t weight_at(uint32_t e, uint32_t l, size_t slot) const { return stack->offset(e, l) + slot; }

  Trace forward(Floats& output) const {
    output.assign(output_gradient.size(), kUntouched);
    return stack->forward(*pool, parameters.data(), {{x.data(), shape.sizes.front()}}, shape.batch,
                          output.data());
  }
  // Returns the output and the gradient; both gradients of one pass; parameters and moments after a
  // step of Adam; the output without a trace; and, for networks with one linear output, the value
  // and the input gradient.
  std::vector<Floats> everything() const {
    std::vector<Floats> out(10);
    const Trace trace = forward(out[0]);
    out[1].assign(parameters.size(), kUntouched);
    stack->gradient(*pool, parameters.data(), trace, output_gradient.data(), out[1].data());
    out[2].assign(out[1].size(), kUntouched);
    out[3].assign(size_t(shape.members) * shape.batch * stack->gradient_inputs(), kUntouched);
    stack->gradient(*pool, parameters.data(), trace, output_gradient.data(), out[2].data(),
                    out[3].data());
    out[4] = parameters;
    out[5] = out[6] = Floats(parameters.size());
    stack->adam_step(*pool, out[4].data(), trace, output_gradient.data(), out[5].data(),
                     out[6].data(), adam_step(1, kAdam));
    const std::vector<Input> input{{x.data(), shape.sizes.front()}};
    out[7].assign(out[0].size(), kUntouched);
    stack->outputs(*pool, parameters.data(), input, shape.batch, out[7].data());
    if (shape.sizes.back() == 1 && shape.output == Activation::none) {
      out[8].assign(shape.batch, kUntouched);
      out[9].assign(size_t(shape.batch) * stack->gradient_inputs(), kUntouched);
      value_and_input_gradient(*stack, *pool, parameters.data(), input, shape.batch, 0,
                               shape.members, kWeight, out[8].data(), out[9].data());
    }
    return out;
  }
  static constexpr float kWeight = 0.25f;
};

// The same results by loops over connections, in double precision. Arrays are [feature][sample].
struct Naive {
  std::vector<Reals> output, gradient, input_gradient; // by member, in the engine's order

  explicit Naive(const Network& net) {
    for (uint32_t e = 0; e < net.shape.members; e++) member(net, e);
  }

  void member(const Network& net, uint32_t e) {
    const auto& sizes = net.shape.sizes;
    const uint32_t batch = net.shape.batch, n_in = sizes.front(), n_out = sizes.back();
    std::vector<Reals> pre(net.depth()), x(net.depth() + 1); // before and after activations
    x[0].resize(size_t(n_in) * batch);
    for (uint32_t f = 0; f < n_in; f++)
      for (uint32_t b = 0; b < batch; b++) x[0][f * batch + b] = {net.x[size_t(b) * n_in + f]};

    for (uint32_t l = 0; l < net.depth(); l++) {
      const auto weights = canonical(net, e, l);
      std::vector<Sum> sums(size_t(sizes[l + 1]) * batch);
      for (size_t i = 0; i < sums.size(); i++)
        sums[i].add(
            {net.parameters[net.stack->offset(e, l) + net.positions[e][l].size() + i / batch]},
            {1.0});
      for (size_t k = 0; k < weights.size(); k++) {
        const int64_t p = net.positions[e][l][k], r = p / sizes[l], c = p % sizes[l];
        for (uint32_t b = 0; b < batch; b++)
          sums[r * batch + b].add({weights[k]}, x[l][c * batch + b]);
      }
      for (const Sum& sum : sums) {
        Real s = sum.done();
        pre[l].push_back(s);
        if (l + 1 < net.depth())
          s.value = std::max(s.value, 0.0);
        else if (net.shape.output == Activation::tanh)
          s = {std::tanh(s.value), s.bound + 4 * double(FLT_EPSILON)};
        x[l + 1].push_back(s);
      }
    }
    Reals y(size_t(batch) * n_out), dy(size_t(n_out) * batch);
    for (uint32_t r = 0; r < n_out; r++)
      for (uint32_t b = 0; b < batch; b++) {
        const Real out = y[b * n_out + r] = x.back()[r * batch + b];
        const double d = net.output_gradient[(size_t(e) * batch + b) * n_out + r];
        dy[r * batch + b] = {d};
        if (net.shape.output == Activation::tanh)
          dy[r * batch + b] = {d * (1 - out.value * out.value),
                               std::fabs(d) * (3 * out.bound + 4 * double(FLT_EPSILON))};
      }
    output.push_back(y);

    Reals all;
    for (uint32_t l = net.depth(); l-- > 0;) {
      const auto weights = canonical(net, e, l);
      const auto& positions = net.positions[e][l];
      std::vector<Sum> of_weight(weights.size()), of_bias(sizes[l + 1]);
      std::vector<Sum> of_input(size_t(sizes[l]) * batch);
      for (size_t k = 0; k < weights.size(); k++) {
        const int64_t r = positions[k] / sizes[l], c = positions[k] % sizes[l];
        of_weight[k].terms += 5; // the tree that adds up the lanes
        for (uint32_t b = 0; b < batch; b++) {
          of_weight[k].add(dy[r * batch + b], x[l][c * batch + b]);
          of_input[c * batch + b].add({weights[k]}, dy[r * batch + b]);
        }
      }
      for (size_t i = 0; i < dy.size(); i++) of_bias[i / batch].add(dy[i], {1.0});
      Reals here;
      for (const uint32_t index : net.stack->layer(e, l).canonical_order())
        here.push_back(of_weight[index].done());
      for (Sum& sum : of_bias) {
        sum.terms += 5;
        here.push_back(sum.done());
      }
      all.insert(all.begin(), here.begin(), here.end());

      dy.clear();
      for (size_t i = 0; i < of_input.size(); i++) {
        Real d = of_input[i].done();
        if (l > 0) { // the ReLU; if rounding may change its sign, the bound is the whole value
          const Real s = pre[l - 1][i];
          if (s.bound > 0 && std::fabs(s.value) <= s.bound)
            d.bound += std::fabs(d.value);
          else if (!(s.value > 0))
            d.bound = 0;
          if (!(s.value > 0)) d.value = 0;
        }
        dy.push_back(d);
      }
    }
    gradient.push_back(all);
    const uint32_t first = net.shape.first_gradient_input;
    Reals dx;
    for (uint32_t b = 0; b < batch; b++)
      for (uint32_t f = first; f < n_in; f++) dx.push_back(dy[f * batch + b]);
    input_gradient.push_back(dx);
  }

  static Floats canonical(const Network& net, uint32_t e, uint32_t l) {
    const auto& index = net.stack->layer(e, l).canonical_order();
    Floats weights(index.size());
    for (size_t slot = 0; slot < index.size(); slot++)
      weights[index[slot]] = net.parameters[net.weight_at(e, l, slot)];
    return weights;
  }

  static Reals joined(const std::vector<Reals>& members) {
    Reals out;
    for (const Reals& m : members) out.insert(out.end(), m.begin(), m.end());
    return out;
  }
};

const std::vector<Shape> kShapes = {
    {{1, 1}, 1, 1},
    {{1, 1, 1}, 1, 3, 1, Activation::tanh},
    {{3, 4, 5}, 0.5, 15, 2},
    {{5, 3, 2}, 0, 17, 2},                      // no connections, only biases
    {{4, 4, 4}, 1, 16, 1, Activation::tanh, 4}, // no input differentiated
    {{7, 16, 17, 3}, 0.05, 63, 2, Activation::tanh, 4},
    {{16, 31, 7}, 0.5, 64, 1, Activation::none, 9},
    {{17, 97, 5}, 1, 65, 2, Activation::none, 16},
    {{31, 97, 4}, 0.05, 100, 2, Activation::tanh},
    {{97, 31, 1}, 0.5, 101},
    {{23, 40, 30, 1}, 0.3, 100, 2, Activation::none, 17},
    {{97, 101, 17}, 0.2, 256, 2, Activation::none, 90},
    {{70001, 3}, 0.001, 17, 2, Activation::none, 65000},
    {{5, 70001, 2}, 0.01, 3, 1, Activation::tanh},
};

void test_network(const Shape& shape) {
  context = std::string(kernels().name) + " network";
  for (const uint32_t n : shape.sizes) context += " " + std::to_string(n);
  context += ", batch " + std::to_string(shape.batch);
  const Network net(shape);
  const Naive naive(net);
  const auto got = net.everything();
  CHECK(near(got[0], Naive::joined(naive.output)));
  CHECK(near(got[1], Naive::joined(naive.gradient)));
  CHECK(got[2] == got[1] && near(got[3], Naive::joined(naive.input_gradient)));
  CHECK(got[7] == got[0]);

  // A step taken while the gradient is summed must equal a step taken afterwards.
  Floats p = net.parameters, m(p.size()), v(p.size());
  kernels().adam(p.size(), p.data(), got[1].data(), m.data(), v.data(), adam_step(1, kAdam));
  CHECK(got[4] == p && got[5] == m && got[6] == v);

  // Test a single sample.
  const uint32_t at = shape.batch / 2, outputs = shape.sizes.back(), n_in = shape.sizes.front();
  Floats alone(shape.members * outputs);
  net.stack->forward(*pool, net.parameters.data(), {{net.x.data() + size_t(at) * n_in, n_in}}, 1,
                     alone.data());
  for (uint32_t e = 0; e < shape.members; e++)
    CHECK(std::equal(alone.begin() + e * outputs, alone.begin() + (e + 1) * outputs,
                     got[0].begin() + (size_t(e) * shape.batch + at) * outputs));

  // Test an input in two parts.
  const uint32_t half = n_in / 2;
  Floats left, right, output(got[0].size());
  for (uint32_t b = 0; b < shape.batch; b++) {
    const float* row = net.x.data() + size_t(b) * n_in;
    left.insert(left.end(), row, row + half);
    right.insert(right.end(), row + half, row + n_in);
  }
  net.stack->forward(*pool, net.parameters.data(),
                     {{left.data(), half}, {right.data(), n_in - half}}, shape.batch,
                     output.data());
  CHECK(output == got[0]);

  // Test a packed input, alone and together with another part.
  const PackedInput packed(net.x.data(), shape.batch, n_in);
  net.stack->outputs(*pool, net.parameters.data(), {packed.input()}, shape.batch, output.data());
  CHECK(output == got[0]);
  if (half > 0) {
    const PackedInput part(left.data(), shape.batch, half);
    net.stack->outputs(*pool, net.parameters.data(), {part.input(), {right.data(), n_in - half}},
                       shape.batch, output.data());
    CHECK(output == got[0]);
  }

  // Test the smallest member's output, and its input gradient.
  if (got[8].empty()) return;
  Floats seed(got[0].size()), gradient(got[1].size()), dx(got[3].size()), sum(got[9].size());
  for (uint32_t b = 0; b < shape.batch; b++) {
    uint32_t least = 0;
    for (uint32_t e = 1; e < shape.members; e++)
      if (got[0][e * shape.batch + b] < got[0][least * shape.batch + b]) least = e;
    seed[least * shape.batch + b] = Network::kWeight;
    CHECK(got[8][b] == got[0][least * shape.batch + b]);
  }
  Floats again;
  net.stack->gradient(*pool, net.parameters.data(), net.forward(again), seed.data(),
                      gradient.data(), dx.data());
  for (size_t i = 0; i < dx.size(); i++) sum[i % sum.size()] += dx[i];
  CHECK(sum == got[9]);
}

void test_stacks_that_do_not_fit() {
  context = "stacks";
  using Layers = std::vector<std::shared_ptr<const Layer>>;
  const auto rejected = [](const std::vector<Layers>& members) {
    const std::vector<Activation> activations(members.empty() ? 0 : members[0].size());
    return throws<std::invalid_argument>([&] { Stack(members, activations); });
  };
  const auto a = layer_of(3, 2, {0}), b = layer_of(2, 3, {0}), first = layer_of(3, 2, {0}, 1);
  CHECK(rejected({}));
  CHECK(rejected({{}}));
  CHECK(rejected({{a, a}}));
  CHECK(rejected({{a}, {a, b}}));
  CHECK(rejected({{a}, {b}}));
  CHECK(rejected({{a}, {first}}));
  CHECK(rejected({{a, b, first}}));
  CHECK(!rejected({{first, b, a}, {first, b, a}}));
  CHECK(throws<std::invalid_argument>([&] { Stack({{a, b}}, {Activation::relu}); }));
}

// ---------------------------------------------------------------- threads

Shape threaded_shape() { return {{31, 97, 101, 5}, 0.3, 101, 2, Activation::tanh, 20}; }

void test_thread_counts() {
  context = std::string(kernels().name) + " thread counts";
  const Network net(threaded_shape());
  const size_t n = 30001;
  const Floats p0 = random_floats(n), g = random_floats(n);
  std::vector<uint32_t> slots(n);
  std::iota(slots.begin(), slots.end(), 0u);
  const auto run = [&] {
    auto out = net.everything();
    Floats updated = p0, pruned = p0;
    soft_update(*pool, n, updated.data(), g.data(), 0.25f);
    TargetUpdater({{0, n, 0, n, slots, slots, n / 2}})
        .update(*pool, pruned.data(), g.data(), 0.25f);
    for (Floats* result : {&updated, &pruned}) out.push_back(*result);
    return out;
  };
  set_threads(1);
  const auto wanted = run();
  for (const uint32_t count : {2u, 4u}) {
    set_threads(count);
    for (int i = 0; i < 3; i++) CHECK(run() == wanted);
  }
  set_threads(1);
}

// In consecutive jobs of all sizes, no item is lost, repeated, or taken from another job.
void test_every_item_runs_once() {
  for (const uint32_t count : {1u, 2u, 4u}) {
    context = "items with " + std::to_string(count) + " threads";
    set_threads(count);
    bool right = true;
    for (uint32_t job = 0; job < 3000; job++) {
      const uint32_t items = job % 7 == 0 ? 50 : job % 5;
      std::vector<std::atomic<uint32_t>> ran(items);
      pool->parallel_for(items, [&](uint32_t i) { ran[i] += job + 1; });
      for (const auto& r : ran) right &= r == job + 1;
    }
    CHECK(right);
  }
  set_threads(1);
}

// An exception thrown by an item reaches the caller after all items have ended, and does not affect
// the next job.
void test_items_that_throw() {
  for (const uint32_t count : {1u, 2u, 4u}) {
    context = "items that throw with " + std::to_string(count) + " threads";
    set_threads(count);
    bool right = true;
    for (uint32_t job = 0; job < 500; job++) {
      std::vector<std::atomic<uint32_t>> ran(9);
      right &= throws<std::bad_alloc>([&] {
        pool->parallel_for(9, [&](uint32_t i) {
          ran[i]++;
          if (i % 3 == job % 3) throw std::bad_alloc();
        });
      });
      pool->parallel_for(9, [&](uint32_t i) { ran[i]++; });
      for (const auto& r : ran) right &= r == 2;
    }
    CHECK(right);
  }
  set_threads(1);
}

// Pending work is done exactly once, even if other work is done in between.
void test_pending_work() {
  for (const uint32_t count : {1u, 2u, 4u}) {
    context = "pending work with " + std::to_string(count) + " threads";
    set_threads(count);
    bool right = true;
    for (uint32_t round = 0; round < 2000; round++) {
      std::vector<std::atomic<uint32_t>> ran(23), between(6);
      const auto mark = [&](uint32_t first) {
        return [&ran, first](uint32_t i) { ran[first + i]++; };
      };
      PendingWork first(*pool, round % 12, mark(0)), second(*pool, 11, mark(12));
      if (round % 3 == 0) second.finish();
      if (round % 5 == 0) std::this_thread::sleep_for(std::chrono::microseconds(round % 700));
      if (round % 7 == 0) set_threads(1 + (count + round) % 4);
      pool->parallel_for(6, [&](uint32_t i) { between[i]++; });
      set_threads(count);
      first.finish();
      for (uint32_t i = 0; i < 12; i++) right &= ran[i] == (i < round % 12);
      second.finish();
      for (uint32_t i = 12; i < 23; i++) right &= ran[i] == 1;
      for (const auto& r : between) right &= r == 1;
    }
    CHECK(right);
  }
  set_threads(1);
}

// A long item of one worker does not prevent the others from computing later items.
void test_a_long_item_does_not_delay_the_others() {
  context = "a long item";
  set_threads(3);
  std::atomic<bool> second_ran{false}, in_time{false};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  PendingWork first(*pool, 1, [&](uint32_t) {
    while (!second_ran && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    in_time = second_ran.load();
  });
  PendingWork second(*pool, 1, [&](uint32_t) { second_ran = true; });
  while (!second_ran && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  first.finish();
  second.finish();
  CHECK(in_time);
  set_threads(1);
}

void test_fork_with_pending_work() {
  context = "fork with pending work";
  set_threads(4);
  int healthy = 0;
  constexpr int kForks = 200, kItems = 20;
  for (int i = 0; i < kForks; i++) {
    std::vector<std::atomic<uint32_t>> ran(kItems);
    PendingWork work(*pool, kItems, [&](uint32_t k) { // a few microseconds each
      volatile uint32_t sum = 0;
      for (uint32_t n = 0; n < 20000; n++) sum = sum + n;
      ran[k]++;
    });
    std::this_thread::sleep_for(std::chrono::microseconds(i * 37 % 1000));
    const pid_t child = fork();
    if (child == 0) alarm(2); // ends a child that hangs
    bool right = true;
    for (const auto& r : ran) right &= r == 1;
    work.finish();
    pool->parallel_for(kItems, [&](uint32_t k) { ran[k]++; });
    for (const auto& r : ran) right &= r == 2;
    if (child == 0) _exit(right ? 0 : 1);
    int status = 1;
    waitpid(child, &status, 0);
    healthy += right && status == 0;
  }
  CHECK(healthy == kForks);
  set_threads(1);
}

void test_concurrent_callers() {
  constexpr int kCallers = 3, kRounds = 8;
  for (const uint32_t count : {1u, 2u, 4u}) {
    context = std::string(kernels().name) + " concurrent callers of a pool of " +
              std::to_string(count) + " threads";
    set_threads(count);
    const Network net(threaded_shape());
    const auto wanted = net.everything();
    std::atomic<int> right{0};
    std::vector<std::thread> callers;
    for (int c = 0; c < kCallers; c++)
      callers.emplace_back([&] {
        for (int i = 0; i < kRounds; i++) right += net.everything() == wanted;
      });
    for (auto& caller : callers) caller.join();
    CHECK(right == kCallers * kRounds);
  }
  set_threads(1);
}

// A fork may happen while another thread computes; in the child, no lock may be locked.
void test_fork_while_others_compute() {
  context = "fork";
  set_threads(1);
  std::atomic<bool> stop{false};
  std::vector<std::thread> others;
  for (int c = 0; c < 3; c++)
    others.emplace_back([&] {
      while (!stop) Buffer buffer(64);
    });
  int healthy = 0;
  constexpr int kForks = 50;
  for (int i = 0; i < kForks; i++) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(2); // ends a child that hangs
      {
        Buffer buffer(64);
      }
      _exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    healthy += status == 0;
    if (status != 0) break;
  }
  stop = true;
  for (auto& other : others) other.join();
  CHECK(healthy == kForks);
}

// ---------------------------------------------------------------- the target within its budget

void test_budget(size_t n, const std::function<float(size_t)>& value) {
  const size_t n_online = n - n / 10;
  Floats target(n), online(n_online);
  for (size_t i = 0; i < n; i++) target[i] = value(i);
  for (size_t i = 0; i < n_online; i++) online[i] = value(i + 1);
  std::vector<uint32_t> source(n), canonical(n);
  for (size_t i = 0; i < n; i++) source[i] = uint32_t(std::min(i, n_online));
  std::shuffle(source.begin(), source.end(), random_bits);
  std::iota(canonical.begin(), canonical.end(), 0u);
  std::shuffle(canonical.begin(), canonical.end(), random_bits);

  for (const float tau : {0.0f, 0.25f}) {
    const auto run = [&](size_t budget) {
      Floats out = target;
      TargetUpdater({{0, n, 0, n_online, source, canonical, budget}})
          .update(*pool, out.data(), online.data(), tau);
      return out;
    };
    const Floats moved = run(n);
    bool right = true;
    for (size_t i = 0; i < n; i++) {
      const double t = target[i], o = source[i] < n_online ? online[source[i]] : 0.0f;
      right &= near(moved[i], {t + tau * (o - t),
                               4 * double(FLT_EPSILON) * (std::fabs(t) + tau * std::fabs(o - t))});
    }
    CHECK(right);
    CHECK(same(run(n + 1), moved));

    std::vector<uint32_t> order(
        n); // the smallest first; of equal ones, that of lower canonical index first
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
      const float x = std::fabs(moved[a]), y = std::fabs(moved[b]);
      return x != y ? x < y : canonical[a] < canonical[b];
    });
    for (const size_t surplus : {size_t(1), n / 20, n / 3, n / 2 + 1, n - 1, n}) {
      if (surplus == 0 || surplus > n) continue;
      Floats wanted = moved;
      for (size_t i = 0; i < surplus; i++) wanted[order[i]] = 0.0f;
      CHECK(same(run(n - surplus), wanted));
    }
  }
}

void test_budgets() {
  for (const size_t n : {1u, 7u, 64u, 4095u, 4096u, 4097u, 20011u}) {
    context = std::string(kernels().name) + " budget of " + std::to_string(n);
    test_budget(n, [](size_t) { return uniform(); });
    context += ", ties";
    test_budget(n, [](size_t) { return std::floor(3 * uniform()); });
  }
}

// The threshold of the previous step does not change a result.
void test_threshold_of_the_previous_step() {
  context = std::string(kernels().name) + " threshold of the previous step";
  const size_t n = 5000, surplus = 300;
  std::vector<uint32_t> slots(n);
  std::iota(slots.begin(), slots.end(), 0u);
  const auto updater = [&] {
    return std::make_unique<TargetUpdater>(
        std::vector<TargetUpdater::Piece>{{0, n, 0, n, slots, slots, n - surplus}});
  };
  const auto kept = updater();
  for (const float scale : {1.0f, 1e-3f, 1e3f, 1e3f, 0.0f, 1.0f}) {
    Floats target = random_floats(n, scale), wanted = target;
    const Floats online = random_floats(n, scale);
    kept->update(*pool, target.data(), online.data(), 0.25f);
    updater()->update(*pool, wanted.data(), online.data(), 0.25f);
    CHECK(same(target, wanted));
  }
}

void test_budget_copies_at_tau_1() {
  context = std::string(kernels().name) + " budget at tau 1";
  Floats target{1e8f, 0.3f, 0.7f, 5.0f};
  const Floats online{1.0f, 0.1f, 0.123456f};
  const std::vector<uint32_t> slots{0, 1, 2, 3};
  TargetUpdater({{0, 4, 0, 3, slots, slots, 4}}).update(*pool, target.data(), online.data(), 1.0f);
  CHECK(std::equal(online.begin(), online.end(), target.begin()));
  CHECK(target[3] == 0.0f);
}

} // namespace

int main() {
  for (const uint32_t n : {1u, 3u, 4u, 5u, 17u, 97u})
    for (const double density : {0.0, 0.05, 0.5, 1.0}) {
      test_pattern_blocks(n, n == 17 ? 31 : 7, density, 0);
      test_pattern_blocks(n == 17 ? 31 : 7, n, density, n / 2 < 7 ? n / 2 : 7);
    }
  test_pattern_blocks(70001, 3, 0.0005, 65000);
  test_pattern_blocks(3, 70001, 0.0005, 1);
  test_stacks_that_do_not_fit();
  test_every_item_runs_once();
  test_items_that_throw();
  test_pending_work();
  test_a_long_item_does_not_delay_the_others();
  test_windows();
  test_find_sorted();

  for (const Kernels* table : available_kernels()) {
    const Kernels& k = *table;
    std::printf("%s\n", k.name);
    use_kernels(k.name);
    CHECK(&kernels() == table);
    uint32_t steps = 1;
    for (const uint32_t n : {1u, 3u, 4u, 5u, 16u, 17u, 31u, 97u})
      for (const double density : {0.0, 0.05, 0.5, 1.0}) {
        test_product_and_gradients(k, n, n == 97 ? 31 : 18 - n % 16, density, steps * k.step);
        steps = steps % (k.lanes / k.step * 9) + 1; // from one step to more than two tiles
      }
    test_relu_keeps_nan(k);
    for (const size_t n : {1u, 3u, 15u, 16u, 17u, 1001u}) test_flat_kernels(k, n);
    test_adam();
    test_squashed_normal();
    for (const Shape& shape : kShapes) test_network(shape);
    test_thread_counts();
    test_concurrent_callers();
    test_budgets();
    test_budget_copies_at_tau_1();
    test_threshold_of_the_previous_step();
  }
  CHECK(throws<std::invalid_argument>([] { use_kernels("sse9"); }));
  if (!kThreadSanitizer) {
    test_fork_while_others_compute();
    test_fork_with_pending_work();
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}

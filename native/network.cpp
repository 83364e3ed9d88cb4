#include "network.h"
#include "dispatch.h"
#include "thread_pool.h"
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

namespace sparl {
namespace {

struct FreeBuffer {
  float* data;
  size_t capacity;
};

// There is one pool per thread, so that no lock is needed between threads or after a fork.
struct FreeBuffers {
  static constexpr size_t kKept = 32, kKeptFloats = size_t(16) << 20; // 64 MiB per thread
  std::vector<FreeBuffer> list;
  size_t floats = 0;
  static thread_local bool ended; // the pool is destroyed; buffers that outlive it are freed
  FreeBuffers() { list.reserve(kKept); }
  ~FreeBuffers() {
    for (const FreeBuffer& free : list) std::free(free.data);
    ended = true;
  }
};
thread_local bool FreeBuffers::ended = false;
thread_local FreeBuffers free_buffers;

constexpr size_t kTileFloats = 65536;   // activations of a layer that fit into a second-level cache
constexpr size_t kGathered = 8192;      // values per work item of a gather
constexpr uint32_t kGradientBlocks = 8; // blocks of rows per work item of a weight gradient

uint32_t share(const ThreadPool& pool, uint32_t members) { // threads per member, rounded up
  return (pool.threads() + members - 1) / members;
}

// Packs the samples of a tile in feature-major order, with zeros beyond the batch.
void pack(const std::vector<Input>& inputs, uint32_t batch, uint32_t first, uint32_t size, float* x,
          size_t stride, const Kernels& k) {
  for (const Input& input : inputs) {
    if (input.stride)
      for (uint32_t f = 0; f < input.features; f++)
        std::copy_n(input.data + f * input.stride + first, size, x + f * stride);
    else
      k.pack(std::min(size, batch - first), input.features,
             input.data + size_t(first) * input.features, x, stride, size);
    x += input.features * stride;
  }
}

// Turns dL/dy into dL/d(pre-activation) in place; y is the output of the activation.
void differentiate(Activation activation, uint32_t rows, const float* y, float* dy, size_t stride,
                   uint32_t samples) {
  for (uint32_t r = 0; r < rows; r++, y += stride, dy += stride)
    for (uint32_t b = 0; b < samples; b++) {
      if (activation == Activation::tanh) dy[b] *= 1.0f - y[b] * y[b];
      if (activation == Activation::relu) dy[b] = y[b] > 0 ? dy[b] : 0.0f;
    }
}

} // namespace

uint32_t padded_samples(uint32_t batch, const Kernels& k) {
  return (batch + k.step - 1) / k.step * k.step;
}

Tiles::Tiles(uint32_t padded, size_t widest, uint32_t parts, const Kernels& k)
    : samples(padded), vectors((padded + k.lanes - 1) / k.lanes), lanes(k.lanes) {
  const size_t near = kTileFloats / (widest * lanes);
  const uint32_t most = uint32_t(std::clamp<size_t>(near, 2, k.max_vectors));
  const uint32_t least = (vectors + most - 1) / most;
  count = std::max({least, std::min(parts, vectors / 2), 1u});
}

uint32_t Tiles::first(uint32_t tile) const {
  return std::min(samples, uint32_t(uint64_t(vectors) * tile / count) * lanes);
}

size_t Tiles::stride() const {
  const size_t widest = std::min(samples, (vectors + count - 1) / count * lanes);
  return (widest + kStrideStep - 1) / kStrideStep * kStrideStep;
}

size_t row_stride(uint32_t batch) {
  const size_t lines = (batch + kStrideStep - 1) / kStrideStep;
  return (lines | 1) * kStrideStep;
}

Buffer::Buffer(size_t floats) : capacity_((std::max<size_t>(floats, 1) + 15) / 16 * 16) {
  if (!FreeBuffers::ended) {
    auto& list = free_buffers.list; // try the newest first, which may still be in a cache
    for (size_t i = list.size(); i-- > 0;)
      if (list[i].capacity == capacity_) {
        data_ = list[i].data;
        free_buffers.floats -= capacity_;
        list.erase(list.begin() + ptrdiff_t(i));
        return;
      }
  }
  data_ = static_cast<float*>(std::aligned_alloc(64, capacity_ * sizeof(float)));
  if (!data_) throw std::bad_alloc();
}

Buffer::~Buffer() {
  if (!data_) return;
  if (FreeBuffers::ended || capacity_ > FreeBuffers::kKeptFloats) {
    std::free(data_);
    return;
  }
  auto& list = free_buffers.list;
  free_buffers.floats += capacity_;
  while (list.size() == FreeBuffers::kKept ||
         free_buffers.floats > FreeBuffers::kKeptFloats) { // free the oldest
    std::free(list.front().data);
    free_buffers.floats -= list.front().capacity;
    list.erase(list.begin());
  }
  list.push_back({data_, capacity_});
}

uint32_t Trace::samples() const { return padded_samples(batch, *kernels); }

size_t Trace::stride() const { return row_stride(batch); }

float* Trace::output_of(uint32_t member, uint32_t layer) const {
  const size_t row = stack->n_in() + member * stack->width() + stack->rows_before(layer);
  return activations.data() + row * stride();
}

PackedInput::PackedInput(const float* from, uint32_t batch_, uint32_t features_)
    : batch(batch_), features(features_), values(features_ * row_stride(batch_)) {
  const size_t stride = row_stride(batch);
  kernels().pack(batch, features, from, values.data(), stride, uint32_t(stride));
}

Stack::Stack(std::vector<std::vector<std::shared_ptr<const Layer>>> members,
             std::vector<Activation> activations)
    : layers_(std::move(members)), activations_(std::move(activations)) {
  if (layers_.empty() || layers_[0].empty())
    throw std::invalid_argument("stack: there are no layers");
  if (activations_.size() != layers_[0].size())
    throw std::invalid_argument("stack: " + std::to_string(activations_.size()) +
                                " activations for " + std::to_string(layers_[0].size()) +
                                " layers");
  offsets_.push_back(0);
  for (const auto& stack : layers_) {
    if (stack.size() != layers_[0].size())
      throw std::invalid_argument("stack: members differ in the number of layers");
    for (size_t l = 0; l < stack.size(); l++) {
      if (l > 0 && stack[l]->n_in != stack[l - 1]->n_out)
        throw std::invalid_argument("stack: layer " + std::to_string(l) + " has " +
                                    std::to_string(stack[l]->n_in) +
                                    " inputs, but the previous layer has " +
                                    std::to_string(stack[l - 1]->n_out) + " outputs");
      if (stack[l]->n_in != layers_[0][l]->n_in || stack[l]->n_out != layers_[0][l]->n_out)
        throw std::invalid_argument("stack: members differ in the shape of layer " +
                                    std::to_string(l));
      if (stack[l]->first_gradient_input != (l ? 0 : layers_[0][0]->first_gradient_input))
        throw std::invalid_argument(
            "stack: first_gradient_input must be 0 in all layers but the first");
      offsets_.push_back(offsets_.back() + stack[l]->connections() + stack[l]->n_out);
    }
  }
  widest_ = n_in();
  for (const auto& layer : layers_[0]) {
    width_ += layer->n_out;
    widest_ = std::max<size_t>(widest_, layer->n_out);
  }
}

template <class Out>
float* Stack::forward_tile(const Kernels& k, const float* parameters, uint32_t member,
                           const float* x, const Out& out, size_t stride, uint32_t samples) const {
  float* y = nullptr;
  for (uint32_t l = 0; l < depth(); l++) {
    y = out(l);
    k.product(layer(member, l).forward.view(), parameters + weights_at(member, l),
              parameters + biases_at(member, l), x, y, nullptr,
              activations_[l] == Activation::relu ? Epilogue::relu : Epilogue::none, stride,
              samples);
    if (activations_[l] == Activation::tanh)
      k.tanh_rows(layer(member, l).n_out, y, stride, samples);
    x = y;
  }
  return y;
}

std::vector<Stack::ParameterBlock> Stack::blocks(uint32_t member, uint32_t l) const {
  return {{"weight", weights_at(member, l), layer(member, l).connections()},
          {"bias", biases_at(member, l), layer(member, l).n_out}};
}

Stack::Transposed Stack::transposed(ThreadPool& pool, const Kernels& k, const float* parameters,
                                    uint32_t first_member, uint32_t members,
                                    uint32_t first_layer) const {
  const uint32_t layers = depth() - std::min(first_layer, depth());
  struct Part {
    uint32_t member, layer;
    size_t first, count, to;
  };
  std::vector<Part> parts;
  std::vector<size_t> at;
  size_t end = 0;
  for (uint32_t i = 0; i < members * layers; i++) {
    const uint32_t member = first_member + i / layers, l = first_layer + i % layers;
    const size_t size = layer(member, l).transposed_slots.size();
    at.push_back(end);
    for (size_t first = 0; first < size; first += kGathered)
      parts.push_back({member, l, first, std::min(kGathered, size - first), end + first});
    end += size;
  }
  Transposed result{first_member, first_layer, layers, std::move(at), Buffer(end)};
  pool.parallel_for(uint32_t(parts.size()), [&](uint32_t i) {
    const Part& part = parts[i];
    k.gather(part.count, parameters + weights_at(part.member, part.layer),
             layer(part.member, part.layer).transposed_slots.data() + part.first,
             result.values.data() + part.to);
  });
  return result;
}

template <class X, class Dx>
void Stack::backward_tile(const Kernels& k, const Transposed& weights, uint32_t member,
                          const float* dy, const X& x, const Dx& dx, size_t stride,
                          uint32_t samples) const {
  for (uint32_t l = depth(); l-- > weights.first_layer;) {
    const Activation before = l > 0 ? activations_[l - 1] : Activation::none;
    const bool gated = before == Activation::relu; // the product applies ReLU's derivative for free
    float* to = dx(l);
    k.product(layer(member, l).transposed.view(), weights.of(member, l), nullptr, dy, to,
              gated ? x(l) : nullptr, gated ? Epilogue::gate : Epilogue::none, stride, samples);
    if (before == Activation::tanh)
      differentiate(before, layer(member, l).n_in, x(l), to, stride, samples);
    dy = to;
  }
}

size_t Stack::rows_before(uint32_t l) const {
  size_t rows = 0;
  for (uint32_t before = 0; before < l; before++) rows += layer(0, before).n_out;
  return rows;
}

Trace Stack::forward(ThreadPool& pool, const float* parameters, const std::vector<Input>& inputs,
                     uint32_t batch, float* output) const {
  const size_t floats = (n_in() + members() * width_) * row_stride(batch);
  Trace trace{shared_from_this(), &kernels(), batch, Buffer(floats)};
  const Kernels& k = *trace.kernels;
  const size_t stride = trace.stride();

  const Tiles tiles(trace.samples(), widest_, share(pool, members()), k);
  pool.parallel_for(tiles.count, [&](uint32_t item) {
    const uint32_t at = tiles.first(item);
    pack(inputs, batch, at, tiles.size(item), trace.input() + at, stride, k);
  });
  pool.parallel_for(members() * tiles.count, [&](uint32_t item) {
    const uint32_t member = item / tiles.count;
    const uint32_t at = tiles.first(item % tiles.count), size = tiles.size(item % tiles.count);
    const auto out = [&](uint32_t l) { return trace.output_of(member, l) + at; };
    const float* y = forward_tile(k, parameters, member, trace.input() + at, out, stride, size);
    k.unpack(std::min(size, batch - at), n_out(), y, stride,
             output + (size_t(member) * batch + at) * n_out());
  });
  return trace;
}

void Stack::outputs(ThreadPool& pool, const float* parameters, const std::vector<Input>& inputs,
                    uint32_t batch, float* output) const {
  const Kernels& k = kernels();
  const Tiles tiles(padded_samples(batch, k), widest_, share(pool, members()), k);
  const size_t stride = tiles.stride();
  pool.parallel_for(members() * tiles.count, [&](uint32_t item) {
    const uint32_t member = item / tiles.count;
    const uint32_t at = tiles.first(item % tiles.count), size = tiles.size(item % tiles.count);
    const Buffer buffer(2 * widest_ * stride); // the thread's last buffer, still in its caches
    const auto part = [&](uint32_t i) { return buffer.data() + (i % 2) * widest_ * stride; };
    pack(inputs, batch, at, size, part(1), stride, k);
    const float* y = forward_tile(k, parameters, member, part(1), part, stride, size);
    k.unpack(std::min(size, batch - at), n_out(), y, stride,
             output + (size_t(member) * batch + at) * n_out());
  });
}

void Stack::value_and_input_gradient(ThreadPool& pool, const float* parameters,
                                     const std::vector<Input>& inputs, uint32_t batch,
                                     uint32_t first_member, uint32_t members, float weight,
                                     float* value, float* input_gradient) const {
  const Kernels& k = kernels();
  const Transposed weights = transposed(pool, k, parameters, first_member, members, 0);
  const Tiles tiles(padded_samples(batch, k), widest_, pool.threads(), k);
  const size_t stride = tiles.stride(), member_size = width_ * stride;
  const size_t dx_size = gradient_inputs() * stride;
  pool.parallel_for(tiles.count, [&](uint32_t item) {
    const uint32_t at = tiles.first(item), size = tiles.size(item);
    const uint32_t samples = std::min(size, batch - at);
    const Buffer buffer((n_in() + 2 * widest_) * stride + members * (member_size + dx_size));
    float* const x = buffer.data();
    float* const dys = x + n_in() * stride; // gradients of two consecutive layers
    float* const inputs_dx = dys + 2 * widest_ * stride;
    float* const activations = inputs_dx + members * dx_size;
    const auto output_of = [&](uint32_t e, uint32_t l) {
      return activations + e * member_size + rows_before(l) * stride;
    };

    pack(inputs, batch, at, size, x, stride, k);
    for (uint32_t e = 0; e < members; e++)
      forward_tile(
          k, parameters, first_member + e, x, [&](uint32_t l) { return output_of(e, l); }, stride,
          size);

    const auto y = [&](uint32_t e) { return activations + (e + 1) * member_size - stride; };
    for (uint32_t b = 0; b < samples; b++) {
      float least = y(0)[b], equal = 0;
      for (uint32_t e = 1; e < members; e++)
        if (!std::isnan(least) && !(least <= y(e)[b])) least = y(e)[b];
      for (uint32_t e = 0; e < members; e++) equal += y(e)[b] == least;
      for (uint32_t e = 0; e < members; e++) // replace y by dL/dy
        y(e)[b] = members == 1 ? weight : float(y(e)[b] == least) / equal * weight;
      value[at + b] = least;
    }
    for (uint32_t e = 0; e < members; e++) {
      std::fill(y(e) + samples, y(e) + size, 0.0f);
      const auto dx = [&](uint32_t l) {
        return l > 0 ? dys + (l % 2) * widest_ * stride : inputs_dx + e * dx_size;
      };
      backward_tile(
          k, weights, first_member + e, y(e), [&](uint32_t l) { return output_of(e, l - 1); }, dx,
          stride, size);
    }
    for (uint32_t e = 1; e < members; e++)
      for (size_t row = 0; row < dx_size; row += stride)
        for (uint32_t b = 0; b < samples; b++)
          inputs_dx[row + b] += inputs_dx[e * dx_size + row + b];
    k.unpack(samples, gradient_inputs(), inputs_dx, stride,
             input_gradient + size_t(at) * gradient_inputs());
  });
}

// Returns dL/d(pre-activation) of every layer, feature-major, member by member. If to_inputs is
// set, the rows of each member are preceded by those of its dL/d(input).
Buffer Stack::backpropagate(ThreadPool& pool, const float* parameters, const Trace& trace,
                            const float* output_gradient, bool to_inputs) const {
  const Kernels& k = *trace.kernels;
  const size_t stride = trace.stride();
  const uint32_t batch = trace.batch, outputs = n_out();
  const size_t rows = (to_inputs ? gradient_inputs() : 0) + width_;
  Buffer result(members() * rows * stride);
  const Transposed weights = transposed(pool, k, parameters, 0, members(), to_inputs ? 0 : 1);
  const Tiles tiles(trace.samples(), widest_, share(pool, members()), k);
  pool.parallel_for(members() * tiles.count, [&](uint32_t item) {
    const uint32_t member = item / tiles.count;
    const uint32_t at = tiles.first(item % tiles.count), size = tiles.size(item % tiles.count);
    float* dy = result.data() + ((member + 1) * rows - outputs) * stride + at;
    k.pack(std::min(size, batch - at), outputs,
           output_gradient + (size_t(member) * batch + at) * outputs, dy, stride, size);
    if (output_activation() != Activation::none)
      differentiate(output_activation(), outputs, trace.output_of(member, depth() - 1) + at, dy,
                    stride, size);
    float* to = dy;
    backward_tile(
        k, weights, member, dy, [&](uint32_t l) { return trace.output_of(member, l - 1) + at; },
        [&](uint32_t l) { return to -= layer(member, l).transposed.rows * stride; }, stride, size);
  });
  return result;
}

std::vector<Stack::Rows> Stack::all_rows(const Trace& trace, bool to_inputs) const {
  std::vector<Rows> all;
  size_t dy_at = 0;
  for (uint32_t e = 0; e < members(); e++) {
    if (to_inputs) dy_at += gradient_inputs() * trace.stride();
    for (uint32_t l = 0; l < depth(); l++) {
      const uint32_t blocks = layer(e, l).forward.block_count();
      for (uint32_t b = 0; b < blocks; b += kGradientBlocks)
        all.push_back({e, l, b, std::min(b + kGradientBlocks, blocks), dy_at});
      dy_at += layer(e, l).n_out * trace.stride();
    }
  }
  return all;
}

size_t Stack::weights_at(const Rows& rows) const {
  const Block* blocks = layer(rows.member, rows.layer).forward.view().blocks;
  return weights_at(rows.member, rows.layer) + blocks[rows.first].value;
}

size_t Stack::weights_of(const Rows& rows) const {
  const Block* blocks = layer(rows.member, rows.layer).forward.view().blocks;
  return blocks[rows.last].value - blocks[rows.first].value;
}

uint32_t Stack::biases_of(const Rows& rows) const {
  return std::min(rows.last * kBlockRows, layer(rows.member, rows.layer).n_out) - rows.row();
}

void Stack::gradient_of(const Rows& rows, const Trace& trace, const Buffer& all_dy, float* weights,
                        float* biases) const {
  const Kernels& k = *trace.kernels;
  const size_t stride = trace.stride();
  const float* dy = all_dy.data() + rows.dy_at;
  const float* x = rows.layer ? trace.output_of(rows.member, rows.layer - 1) : trace.input();
  k.weight_gradient(layer(rows.member, rows.layer).forward.view(), rows.first, rows.last, dy, x,
                    stride, trace.samples(), weights);
  k.bias_gradient(biases_of(rows), dy + rows.row() * stride, stride, trace.samples(), biases);
}

void Stack::gradient(ThreadPool& pool, const float* parameters, const Trace& trace,
                     const float* output_gradient, float* gradient, float* input_gradient) const {
  const Buffer dy =
      backpropagate(pool, parameters, trace, output_gradient, input_gradient != nullptr);
  const std::vector<Rows> all = all_rows(trace, input_gradient != nullptr);
  pool.parallel_for(uint32_t(all.size()), [&](uint32_t i) {
    const Rows& rows = all[i];
    gradient_of(rows, trace, dy, gradient + weights_at(rows),
                gradient + biases_at(rows.member, rows.layer) + rows.row());
  });
  if (input_gradient) unpack_inputs(pool, trace, dy, input_gradient);
}

PendingWork Stack::adam_step(ThreadPool& pool, float* parameters, const Trace& trace,
                             const float* output_gradient, float* m, float* v,
                             const AdamStep& step) const {
  auto dy =
      std::make_shared<Buffer>(backpropagate(pool, parameters, trace, output_gradient, false));
  std::vector<Rows> all = all_rows(trace, false);
  const uint32_t count = uint32_t(all.size());
  return PendingWork(
      pool, count, [=, &trace, dy = std::move(dy), all = std::move(all)](uint32_t i) {
        const Rows& rows = all[i];
        const size_t weights = weights_of(rows), biases = biases_of(rows);
        thread_local std::vector<float> own_gradient;
        std::vector<float>& gradient = own_gradient; // one look-up of the thread-local variable
        if (gradient.size() < weights + biases) gradient.resize(weights + biases);
        gradient_of(rows, trace, *dy, gradient.data(), gradient.data() + weights);
        const auto take = [&](size_t at, size_t n, const float* g) {
          trace.kernels->adam(n, parameters + at, g, m + at, v + at, step);
        };
        take(weights_at(rows), weights, gradient.data());
        take(biases_at(rows.member, rows.layer) + rows.row(), biases, gradient.data() + weights);
      });
}

void Stack::gradient_factors(ThreadPool& pool, const float* parameters, const Trace& trace,
                             const float* output_gradient, uint32_t member, uint32_t layer,
                             float* dy, float* x) const {
  const Buffer all = backpropagate(pool, parameters, trace, output_gradient, false);
  const size_t stride = trace.stride();
  const Layer& here = this->layer(member, layer);
  const float* from = all.data() + (member * width_ + rows_before(layer)) * stride;
  for (uint32_t r = 0; r < here.n_out; r++)
    std::memcpy(dy + size_t(r) * trace.batch, from + r * stride, trace.batch * sizeof(float));
  const float* in = layer ? trace.output_of(member, layer - 1) : trace.input();
  for (uint32_t c = 0; c < here.n_in; c++)
    std::memcpy(x + size_t(c) * trace.batch, in + c * stride, trace.batch * sizeof(float));
}

void Stack::unpack_inputs(ThreadPool& pool, const Trace& trace, const Buffer& gradients,
                          float* result) const {
  const Kernels& k = *trace.kernels;
  const uint32_t inputs = gradient_inputs();
  const size_t stride = trace.stride();
  const Tiles tiles(trace.samples(), widest_, share(pool, members()), k);
  pool.parallel_for(members() * tiles.count, [&](uint32_t item) {
    const uint32_t e = item / tiles.count, at = tiles.first(item % tiles.count);
    k.unpack(std::min(tiles.size(item % tiles.count), trace.batch - at), inputs,
             gradients.data() + e * (inputs + width_) * stride + at, stride,
             result + (size_t(e) * trace.batch + at) * inputs);
  });
}

} // namespace sparl

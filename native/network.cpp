#include "network.h"
#include "dispatch.h"
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace sparl {
namespace {

constexpr size_t kGathered = 8192; // values per work item of a gather

uint32_t share(const ThreadPool& pool, uint32_t members) { // threads per member, rounded up
  return (pool.threads() + members - 1) / members;
}

} // namespace

uint32_t Trace::samples() const { return padded_samples(batch, *kernels); }

size_t Trace::stride() const { return row_stride(batch); }

float* Trace::output_of(uint32_t member, uint32_t layer) const {
  const size_t row = stack->n_in() + member * stack->width() + stack->rows_before(layer);
  return activations.data() + row * stride();
}

Stack::Stack(std::vector<std::vector<std::shared_ptr<const Layer>>> members,
             std::vector<Activation> activations)
    : layers_(std::move(members)), activations_(std::move(activations)) {
  if (layers_.empty() || layers_[0].empty())
    throw std::invalid_argument("stack: must have at least one layer");
  if (activations_.size() != layers_[0].size())
    throw std::invalid_argument("stack: has " + std::to_string(layers_[0].size()) + " layers but " +
                                std::to_string(activations_.size()) +
                                " activations; the two numbers must be equal");
  offsets_.push_back(0);
  for (const auto& stack : layers_) {
    if (stack.size() != layers_[0].size())
      throw std::invalid_argument("stack: all members must have the same number of layers");
    for (size_t l = 0; l < stack.size(); l++) {
      if (l > 0 && stack[l]->n_in != stack[l - 1]->n_out)
        throw std::invalid_argument("stack: layer " + std::to_string(l) + " has " +
                                    std::to_string(stack[l]->n_in) +
                                    " inputs, but the previous layer has " +
                                    std::to_string(stack[l - 1]->n_out) + " outputs");
      if (stack[l]->n_in != layers_[0][l]->n_in || stack[l]->n_out != layers_[0][l]->n_out)
        throw std::invalid_argument("stack: layer " + std::to_string(l) +
                                    " must have the same shape in all members");
      if (stack[l]->first_gradient_input != (l ? 0 : layers_[0][0]->first_gradient_input))
        throw std::invalid_argument(
            "stack: first_gradient_input must be 0 in all layers but the first");
      offsets_.push_back(offsets_.back() + stack[l]->parameters());
    }
  }
  widest_ = n_in();
  for (const auto& layer : layers_[0]) {
    width_ += layer->n_out;
    widest_ = std::max<size_t>(widest_, layer->n_out);
  }
}

Stack::Gathered Stack::gathered(ThreadPool& pool, const Kernels& k, const float* parameters,
                                uint32_t first_member, uint32_t members,
                                uint32_t first_layer) const {
  const uint32_t layers = depth() - std::min(first_layer, depth());
  struct Stretch {
    uint32_t member, layer;
    size_t first, count, to;
  };
  std::vector<Stretch> stretches;
  std::vector<size_t> at;
  size_t end = 0;
  for (uint32_t i = 0; i < members * layers; i++) {
    const uint32_t member = first_member + i / layers, l = first_layer + i % layers;
    const size_t size = layer(member, l).gathered().size();
    at.push_back(end);
    for (size_t first = 0; first < size; first += kGathered)
      stretches.push_back({member, l, first, std::min(kGathered, size - first), end + first});
    end += size;
  }
  Gathered result{first_member, first_layer, layers, std::move(at), Buffer(end)};
  pool.parallel_for(uint32_t(stretches.size()), [&](uint32_t i) {
    const Stretch& part = stretches[i];
    k.gather(part.count, parameters + offset(part.member, part.layer),
             layer(part.member, part.layer).gathered().data() + part.first,
             result.values.data() + part.to);
  });
  return result;
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
    const Buffer buffer(2 * widest_ * stride); // of one tile, so that it stays in caches
    const auto part = [&](uint32_t i) { return buffer.data() + (i % 2) * widest_ * stride; };
    pack(inputs, batch, at, size, part(1), stride, k);
    const float* y = forward_tile(k, parameters, member, part(1), part, stride, size);
    k.unpack(std::min(size, batch - at), n_out(), y, stride,
             output + (size_t(member) * batch + at) * n_out());
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
  const Gathered weights = gathered(pool, k, parameters, 0, members(), to_inputs ? 0 : 1);
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
        k, weights, member, dy, [&](uint32_t l) { return trace.input_of(member, l) + at; },
        [&](uint32_t l) { return to -= layer(member, l).gradient_inputs() * stride; }, stride,
        size);
  });
  return result;
}

std::vector<Stack::Part> Stack::all_parts(const Trace& trace, bool to_inputs) const {
  std::vector<Part> all;
  size_t dy_at = 0;
  for (uint32_t e = 0; e < members(); e++) {
    if (to_inputs) dy_at += gradient_inputs() * trace.stride();
    for (uint32_t l = 0; l < depth(); l++) {
      for (uint32_t i = 0; i < layer(e, l).parts(); i++) all.push_back({e, l, i, dy_at});
      dy_at += layer(e, l).n_out * trace.stride();
    }
  }
  return all;
}

void Stack::gradient_of(const Part& part, const Trace& trace, const Buffer& dy,
                        const std::array<float*, 2>& to) const {
  layer(part.member, part.layer)
      .parameter_gradient(*trace.kernels, part.part, dy.data() + part.dy_at,
                          trace.input_of(part.member, part.layer), trace.stride(), trace.samples(),
                          to);
}

void Stack::gradient(ThreadPool& pool, const float* parameters, const Trace& trace,
                     const float* output_gradient, float* gradient, float* input_gradient) const {
  const Buffer dy =
      backpropagate(pool, parameters, trace, output_gradient, input_gradient != nullptr);
  const std::vector<Part> all = all_parts(trace, input_gradient != nullptr);
  pool.parallel_for(uint32_t(all.size()), [&](uint32_t i) {
    const Part& part = all[i];
    const auto ranges = layer(part.member, part.layer).ranges(part.part);
    float* const to = gradient + offset(part.member, part.layer);
    gradient_of(part, trace, dy, {to + ranges[0].first, to + ranges[1].first});
  });
  if (input_gradient) unpack_inputs(pool, trace, dy, input_gradient);
}

PendingWork Stack::adam_step(ThreadPool& pool, float* parameters, const Trace& trace,
                             const float* output_gradient, float* m, float* v,
                             const AdamStep& step) const {
  auto dy =
      std::make_shared<Buffer>(backpropagate(pool, parameters, trace, output_gradient, false));
  std::vector<Part> all = all_parts(trace, false);
  const uint32_t count = uint32_t(all.size());
  return PendingWork(
      pool, count, [=, &trace, dy = std::move(dy), all = std::move(all)](uint32_t i) {
        const Part& part = all[i];
        const auto ranges = layer(part.member, part.layer).ranges(part.part);
        thread_local std::vector<float> own_gradient;
        std::vector<float>& gradient = own_gradient; // one look-up of the thread-local variable
        const size_t size = ranges[0].size + ranges[1].size;
        if (gradient.size() < size) gradient.resize(size);
        const std::array<float*, 2> to{gradient.data(), gradient.data() + ranges[0].size};
        gradient_of(part, trace, *dy, to);
        for (size_t r = 0; r < ranges.size(); r++) {
          const size_t at = offset(part.member, part.layer) + ranges[r].first;
          trace.kernels->adam(ranges[r].size, parameters + at, to[r], m + at, v + at, step);
        }
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
  const float* in = trace.input_of(member, layer);
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

// Forward and backward through a stack of layers, for one or several members (an ensemble) at
// once. Parameters are one flat array: member by member, layer by layer, block by block; a layer
// has a block of weights in kernel order and one of biases. An activation follows each layer.
#pragma once
#include "pattern_blocks.h"
#include "thread_pool.h"
#include <memory>
#include <vector>

namespace sparl {

uint32_t padded_samples(uint32_t batch, const Kernels&); // a multiple of step

// The samples of a pass, cut into tiles as evenly as vectors allow: as few as the kernels can take
// and as keep the activations of the `widest` layer in the second-level cache, or as many as there
// are `parts` to be had; of two vectors at least (a narrower tile shares a weight among too few
// samples).
struct Tiles {
  uint32_t samples, vectors, count, lanes;
  Tiles(uint32_t padded, size_t widest, uint32_t parts, const Kernels&);
  uint32_t first(uint32_t tile) const;
  uint32_t size(uint32_t tile) const { return first(tile + 1) - first(tile); }
  size_t stride() const; // floats of a row of the widest tile alone
};

// Floats of a row of activations: an odd number of 64-byte lines, so that the rows of a wide batch
// do not fall on the same cache sets.
size_t row_stride(uint32_t batch);

// A 64-byte aligned array from the thread's pool of recycled ones, so a pass allocates nothing in
// the long run. Only an array of the same size is used again: then the parts of it that a thread
// works on stay the same, and with them the cache that holds them.
class Buffer {
 public:
  explicit Buffer(size_t floats);
  ~Buffer();
  Buffer(Buffer&& other) noexcept : data_(other.data_), capacity_(other.capacity_) {
    other.data_ = nullptr;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer& operator=(Buffer&&) = delete;
  float* data() const { return data_; }

 private:
  float* data_;
  size_t capacity_;
};

enum class Activation { none, relu, tanh };

struct Input {
  const float* data; // [batch, features], row-major; packed: [features, stride]
  uint32_t features;
  size_t stride = 0; // of what is packed, else 0
};

// Samples in the layout of the kernels: packed once, it may be the input of any number of passes.
struct PackedInput {
  uint32_t batch, features;
  Buffer values; // [features, row_stride(batch)], zeros beyond the batch

  PackedInput(const float* from, uint32_t batch, uint32_t features);
  Input input() const { return {values.data(), features, row_stride(batch)}; }
};

class Stack;

// What a forward pass leaves behind: every layer's activations, feature-major.
struct Trace {
  std::shared_ptr<const Stack> stack;
  const Kernels* kernels; // that made it, and that must read it: padding depends on their lanes
  uint32_t batch;
  Buffer activations;

  uint32_t samples() const; // of the batch, rounded up to whole vectors; see kernels.h
  size_t stride() const;    // floats
  float* input() const { return activations.data(); }
  float* output_of(uint32_t member, uint32_t layer) const;
};

class Stack : public std::enable_shared_from_this<Stack> {
 public:
  // members: equally shaped lists of layers; activations: what follows each of a member's layers.
  // Throws std::invalid_argument if they do not fit.
  Stack(std::vector<std::vector<std::shared_ptr<const Layer>>> members,
        std::vector<Activation> activations);

  uint32_t members() const { return uint32_t(layers_.size()); }
  Activation output_activation() const { return activations_.back(); }
  uint32_t depth() const { return uint32_t(layers_[0].size()); }
  const Layer& layer(uint32_t member, uint32_t l) const { return *layers_[member][l]; }
  uint32_t n_in() const { return layer(0, 0).n_in; }
  uint32_t n_out() const { return layer(0, depth() - 1).n_out; }
  uint32_t gradient_inputs() const { return n_in() - layer(0, 0).first_gradient_input; }
  size_t parameters() const { return offsets_.back(); }
  struct ParameterBlock { // named parameters of a layer, which lie together in the flat array
    const char* name;
    size_t first, size;
  };
  std::vector<ParameterBlock> blocks(uint32_t member, uint32_t l) const;
  size_t weights_at(uint32_t member, uint32_t l) const { return offsets_[member * depth() + l]; }
  size_t biases_at(uint32_t member, uint32_t l) const {
    return weights_at(member, l) + layer(member, l).connections();
  }
  size_t width() const { return width_; } // activations of one member, all layers, per sample
  size_t rows_before(uint32_t l) const;   // of them, those of the layers before this one

  // output: [members, batch, n_out], row-major.
  Trace forward(ThreadPool&, const float* parameters, const std::vector<Input>& inputs,
                uint32_t batch, float* output) const;

  // The same output, when nothing will go back: activations stay in caches.
  void outputs(ThreadPool&, const float* parameters, const std::vector<Input>& inputs,
               uint32_t batch, float* output) const;

  // value: [batch], of each sample the smallest output of `members` members, which are linear and
  // have one output; NaN where one is. input_gradient: [batch, gradient_inputs()] of weight
  // sum(value); members that are equal share it. Both in one walk of each tile, through buffers of
  // its own.
  void value_and_input_gradient(ThreadPool&, const float* parameters,
                                const std::vector<Input>& inputs, uint32_t batch,
                                uint32_t first_member, uint32_t members, float weight, float* value,
                                float* input_gradient) const;

  // gradient: [parameters()] of sum(output * output_gradient), in the order of the parameters. If
  // input_gradient is not null: also that, [members, batch, gradient_inputs()], in the same pass.
  void gradient(ThreadPool&, const float* parameters, const Trace&, const float* output_gradient,
                float* gradient, float* input_gradient = nullptr) const;

  // One step of Adam down that gradient, m and v [parameters()]. Done at the latest when what it
  // returns is finished; the arrays and the trace must last until then.
  PendingWork adam_step(ThreadPool&, float* parameters, const Trace&, const float* output_gradient,
                        float* m, float* v, const AdamStep&) const;

  // The factors of one layer's weight gradient, dW = dY X^T: dy [n_out, batch], x [n_in, batch].
  void gradient_factors(ThreadPool&, const float* parameters, const Trace&,
                        const float* output_gradient, uint32_t member, uint32_t layer, float* dy,
                        float* x) const;

 private:
  // A tile of samples through all layers of a member; layer l writes to out(l), which must not be
  // what it reads. Returns where the last layer wrote.
  template <class Out>
  float* walk(const Kernels&, const float* parameters, uint32_t member, const float* x,
              const Out& out, size_t stride, uint32_t samples) const;

  // Weights in the order of the transposed patterns, of the layers from first_layer on.
  struct Transposed {
    uint32_t first_member, first_layer, layers; // layers: of a member
    std::vector<size_t> at;
    Buffer values;

    const float* of(uint32_t member, uint32_t layer) const {
      return values.data() + at[(member - first_member) * layers + layer - first_layer];
    }
  };
  Transposed transposed(ThreadPool&, const Kernels&, const float* parameters, uint32_t first_member,
                        uint32_t members, uint32_t first_layer) const;

  // And back, from dL/d(pre-activation) of the last layer: dx(l) receives dL/d(pre-activation) of
  // the layer before l, whose output is x(l); of the first layer, dL/d(input).
  template <class X, class Dx>
  void walk_back(const Kernels&, const Transposed&, uint32_t member, const float* dy, const X& x,
                 const Dx& dx, size_t stride, uint32_t samples) const;

  Buffer backpropagate(ThreadPool&, const float* parameters, const Trace&,
                       const float* output_gradient, bool to_inputs) const;
  // Blocks of rows of a layer: a work item of a gradient.
  struct Rows {
    uint32_t member, layer, first, last;
    size_t dy_at; // where the layer's dL/d(pre-activation) begins in what backpropagate() gives

    uint32_t row() const { return first * kBlockRows; }
  };
  std::vector<Rows> all_rows(const Trace&, bool to_inputs) const;
  size_t weights_at(const Rows&) const; // where their weights begin in the flat array
  size_t weights_of(const Rows&) const; // their number
  uint32_t biases_of(const Rows&) const;
  void gradient_of(const Rows&, const Trace&, const Buffer& dy, float* weights,
                   float* biases) const;
  void unpack_inputs(ThreadPool&, const Trace&, const Buffer& gradients, float* result) const;

  std::vector<std::vector<std::shared_ptr<const Layer>>> layers_;
  std::vector<Activation> activations_; // of each layer
  std::vector<size_t> offsets_;
  size_t width_ = 0, widest_ = 0; // of a member: all layers' outputs; the widest array
};

} // namespace sparl

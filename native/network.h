// Forward and backward through a stack of layers, for one or several members (an ensemble) at
// once. Parameters are one flat array, ordered by member, layer and block; a layer has a block of
// weights in kernel order and a block of biases. Each layer applies an activation to its sums.
#pragma once
#include "pattern_blocks.h"
#include "thread_pool.h"
#include <memory>
#include <vector>

namespace sparl {

uint32_t padded_samples(uint32_t batch, const Kernels&); // rounded up to a multiple of step

// Divides the samples of a pass into tiles with nearly equal numbers of vectors. A tile is narrow
// enough for the kernels, and the activations of the `widest` layer fit into the second-level
// cache. There are at least `parts` tiles, one for each available thread, unless a tile would then
// have fewer than two vectors, so that each weight would be loaded for too few samples.
struct Tiles {
  uint32_t samples, vectors, count, lanes;
  Tiles(uint32_t padded, size_t widest, uint32_t parts, const Kernels&);
  uint32_t first(uint32_t tile) const;
  uint32_t size(uint32_t tile) const { return first(tile + 1) - first(tile); }
  size_t stride() const; // floats per row of the widest tile
};

// Returns the number of floats in a row of activations. A row is an odd number of 64-byte lines, so
// that the rows of a large batch do not map to the same cache sets.
size_t row_stride(uint32_t batch);

// A 64-byte aligned array from a thread-local pool of recycled arrays, so repeated passes allocate
// no memory. Only arrays of the same size are reused, so that each thread works on the same memory
// in every pass and finds that memory in its cache.
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
  size_t stride = 0; // floats; 0 unless packed
};

// Samples in the layout of the kernels, packed once for any number of passes.
struct PackedInput {
  uint32_t batch, features;
  Buffer values; // [features, row_stride(batch)], zeros beyond the batch

  PackedInput(const float* from, uint32_t batch, uint32_t features);
  Input input() const { return {values.data(), features, row_stride(batch)}; }
};

class Stack;

// The activations of every layer in a forward pass, feature-major; backward passes need them.
struct Trace {
  std::shared_ptr<const Stack> stack;
  const Kernels* kernels; // backward passes must use the same kernels, which determine the padding
  uint32_t batch;
  Buffer activations;

  uint32_t samples() const; // the batch rounded up to a multiple of step, see kernels.h
  size_t stride() const;    // floats
  float* input() const { return activations.data(); }
  float* output_of(uint32_t member, uint32_t layer) const;
};

class Stack : public std::enable_shared_from_this<Stack> {
 public:
  // members: the layers of each member, with the same shapes in all members; activations: the
  // activation of each layer. Throws std::invalid_argument if shapes or lengths do not match.
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
  struct ParameterBlock { // named parameters of a layer, contiguous in the flat array
    const char* name;
    size_t first, size;
  };
  std::vector<ParameterBlock> blocks(uint32_t member, uint32_t l) const;
  size_t weights_at(uint32_t member, uint32_t l) const { return offsets_[member * depth() + l]; }
  size_t biases_at(uint32_t member, uint32_t l) const {
    return weights_at(member, l) + layer(member, l).connections();
  }
  size_t width() const { return width_; } // outputs of all layers of one member
  size_t rows_before(uint32_t l) const;   // outputs of the layers before layer l

  // output: [members, batch, n_out], row-major.
  Trace forward(ThreadPool&, const float* parameters, const std::vector<Input>& inputs,
                uint32_t batch, float* output) const;

  // Computes the same output, for inference only. The activations stay in caches.
  void outputs(ThreadPool&, const float* parameters, const std::vector<Input>& inputs,
               uint32_t batch, float* output) const;

  // value: [batch], the smallest output of `members` members for each sample, or NaN if one of the
  // outputs is NaN; the network must have one linear output. input_gradient: [batch,
  // gradient_inputs()], the gradient of weight sum(value); members with equal outputs share the
  // gradient equally. The backward pass of a tile immediately follows its forward pass, so that the
  // activations stay in caches.
  void value_and_input_gradient(ThreadPool&, const float* parameters,
                                const std::vector<Input>& inputs, uint32_t batch,
                                uint32_t first_member, uint32_t members, float weight, float* value,
                                float* input_gradient) const;

  // gradient: [parameters()], the gradient of sum(output * output_gradient), in the order of the
  // parameters. input_gradient: [members, batch, gradient_inputs()], the gradient of the same sum;
  // null if it is not needed.
  void gradient(ThreadPool&, const float* parameters, const Trace&, const float* output_gradient,
                float* gradient, float* input_gradient = nullptr) const;

  // Computes the gradient as above and applies one step of Adam; m and v are [parameters()]. The
  // step is complete when the returned work is finished. Until then, the arrays and the trace must
  // exist.
  PendingWork adam_step(ThreadPool&, float* parameters, const Trace&, const float* output_gradient,
                        float* m, float* v, const AdamStep&) const;

  // Computes the factors of one layer's weight gradient dW = dY X^T: dy [n_out, batch] and
  // x [n_in, batch].
  void gradient_factors(ThreadPool&, const float* parameters, const Trace&,
                        const float* output_gradient, uint32_t member, uint32_t layer, float* dy,
                        float* x) const;

 private:
  // Computes all layers of a member for a tile of samples. Layer l writes to out(l), which must
  // differ from the array that it reads. Returns the output of the last layer.
  template <class Out>
  float* forward_tile(const Kernels&, const float* parameters, uint32_t member, const float* x,
                      const Out& out, size_t stride, uint32_t samples) const;

  // The weights of the layers from first_layer on, in the order of the transposed patterns.
  struct Transposed {
    uint32_t first_member, first_layer, layers; // layers: per member
    std::vector<size_t> at;
    Buffer values;

    const float* of(uint32_t member, uint32_t layer) const {
      return values.data() + at[(member - first_member) * layers + layer - first_layer];
    }
  };
  Transposed transposed(ThreadPool&, const Kernels&, const float* parameters, uint32_t first_member,
                        uint32_t members, uint32_t first_layer) const;

  // Backpropagates dy, dL/d(pre-activation) of the last layer, through all layers of a member for a
  // tile of samples. x(l) is the input of layer l. dx(l) receives dL/d(pre-activation) of the layer
  // before l or, for the first layer, dL/d(input).
  template <class X, class Dx>
  void backward_tile(const Kernels&, const Transposed&, uint32_t member, const float* dy,
                     const X& x, const Dx& dx, size_t stride, uint32_t samples) const;

  Buffer backpropagate(ThreadPool&, const float* parameters, const Trace&,
                       const float* output_gradient, bool to_inputs) const;
  // Some blocks of rows of a layer, which form a work item of a gradient.
  struct Rows {
    uint32_t member, layer, first, last;
    size_t dy_at; // index of the layer's dL/d(pre-activation) in the result of backpropagate()

    uint32_t row() const { return first * kBlockRows; }
  };
  std::vector<Rows> all_rows(const Trace&, bool to_inputs) const;
  size_t weights_at(const Rows&) const; // index of the rows' first weight in the flat array
  size_t weights_of(const Rows&) const; // number of weights of the rows
  uint32_t biases_of(const Rows&) const;
  void gradient_of(const Rows&, const Trace&, const Buffer& dy, float* weights,
                   float* biases) const;
  void unpack_inputs(ThreadPool&, const Trace&, const Buffer& gradients, float* result) const;

  std::vector<std::vector<std::shared_ptr<const Layer>>> layers_;
  std::vector<Activation> activations_; // one per layer
  std::vector<size_t> offsets_;
  size_t width_ = 0, widest_ = 0; // outputs of all layers of a member; largest input or output
};

} // namespace sparl

// Forward and backward passes through a stack of layers, for one member or for the members of an
// ensemble at once. All parameters are in one flat array, ordered by member and layer. Each layer
// applies an activation to its sums.
#pragma once
#include "layer.h"
#include "thread_pool.h"
#include "tiles.h"
#include <memory>
#include <vector>

namespace sparl {

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
  const float* input_of(uint32_t member, uint32_t layer) const {
    return layer ? output_of(member, layer - 1) : input();
  }
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
  uint32_t gradient_inputs() const { return layer(0, 0).gradient_inputs(); }
  size_t parameters() const { return offsets_.back(); }
  size_t offset(uint32_t member, uint32_t l) const { // of a layer's first parameter
    return offsets_[member * depth() + l];
  }
  size_t width() const { return width_; }   // number of outputs of all layers of one member
  size_t widest() const { return widest_; } // largest number of inputs or outputs of a layer
  size_t rows_before(uint32_t l) const;     // number of outputs of the layers before layer l

  // output: [members, batch, n_out], row-major.
  Trace forward(ThreadPool&, const float* parameters, const std::vector<Input>& inputs,
                uint32_t batch, float* output) const;

  // Computes the same output, for inference only. The activations stay in caches.
  void outputs(ThreadPool&, const float* parameters, const std::vector<Input>& inputs,
               uint32_t batch, float* output) const;

  // gradient: [parameters()], the gradient of sum(output * output_gradient) with respect to the
  // parameters. input_gradient: [members, batch, gradient_inputs()], the gradient of the same sum
  // with respect to the inputs from first_gradient_input on; null if it is not needed.
  void gradient(ThreadPool&, const float* parameters, const Trace&, const float* output_gradient,
                float* gradient, float* input_gradient = nullptr) const;

  // Computes the gradient as above and applies one step of Adam; m and v are [parameters()]. The
  // step is complete when the returned work is finished. Until then, the trace, parameters, m and v
  // must exist, and the three arrays must not be used.
  PendingWork adam_step(ThreadPool&, float* parameters, const Trace&, const float* output_gradient,
                        float* m, float* v, const AdamStep&) const;

  // Computes the factors of one layer's weight gradient dW = dY X^T: dy [n_out, batch] and
  // x [n_in, batch].
  void gradient_factors(ThreadPool&, const float* parameters, const Trace&,
                        const float* output_gradient, uint32_t member, uint32_t layer, float* dy,
                        float* x) const;

  // Computes all layers of a member for a tile of samples. Layer l writes to out(l), which must
  // differ from the array that it reads. Returns the output of the last layer.
  template <class Out>
  float* forward_tile(const Kernels& k, const float* parameters, uint32_t member, const float* x,
                      const Out& out, size_t stride, uint32_t samples) const {
    float* y = nullptr;
    for (uint32_t l = 0; l < depth(); l++) {
      y = out(l);
      layer(member, l).outputs(k, parameters + offset(member, l), activations_[l], x, y, stride,
                               samples);
      x = y;
    }
    return y;
  }

  // The parameters that the layers from first_layer on read in a backward pass, layer by layer in
  // the order in which a layer reads them.
  struct Gathered {
    uint32_t first_member, first_layer, layers; // layers: per member
    std::vector<size_t> at;
    Buffer values;

    const float* of(uint32_t member, uint32_t layer) const {
      return values.data() + at[(member - first_member) * layers + layer - first_layer];
    }
  };
  Gathered gathered(ThreadPool&, const Kernels&, const float* parameters, uint32_t first_member,
                    uint32_t members, uint32_t first_layer) const;

  // Backpropagates dy, dL/d(pre-activation) of the last layer, through the layers of a member from
  // gathered.first_layer on, for a tile of samples. x(l) is the input of layer l. dx(l) receives
  // dL/d(pre-activation) of the layer before l or, for the first layer, dL/d(input).
  template <class X, class Dx>
  void backward_tile(const Kernels& k, const Gathered& gathered, uint32_t member, const float* dy,
                     const X& x, const Dx& dx, size_t stride, uint32_t samples) const {
    for (uint32_t l = depth(); l-- > gathered.first_layer;) {
      float* to = dx(l);
      layer(member, l).input_gradient(k, gathered.of(member, l), dy,
                                      l > 0 ? activations_[l - 1] : Activation::none, x(l), to,
                                      stride, samples);
      dy = to;
    }
  }

 private:
  Buffer backpropagate(ThreadPool&, const float* parameters, const Trace&,
                       const float* output_gradient, bool to_inputs) const;
  struct Part { // a part of the gradient of a layer's parameters, computed as one work item
    uint32_t member, layer, part;
    size_t dy_at; // index of the layer's dL/d(pre-activation) in the result of backpropagate()
  };
  std::vector<Part> all_parts(const Trace&, bool to_inputs) const;
  void gradient_of(const Part&, const Trace&, const Buffer& dy,
                   const std::array<float*, 2>& to) const;
  void unpack_inputs(ThreadPool&, const Trace&, const Buffer& gradients, float* result) const;

  std::vector<std::vector<std::shared_ptr<const Layer>>> layers_;
  std::vector<Activation> activations_; // one per layer
  std::vector<size_t> offsets_;
  size_t width_ = 0, widest_ = 0;
};

} // namespace sparl

#include "bindings.h"
#include "clipped_double_q.h"
#include "flat.h"
#include "linear.h"
#include "network.h"
#include <optional>
#include <variant>

using namespace nb::literals;

namespace sparl {
#define INPUTS "collections.abc.Sequence[" FLOATS " | PackedInput]"
namespace {

void new_linear(Linear* self, uint32_t n_in, uint32_t n_out, ReadOnlyArray positions,
                uint32_t first_gradient_input) {
  check_axes(positions, "layer: positions", 1);
  check<int64_t>(positions, "layer: positions");
  const auto* p = static_cast<const int64_t*>(positions.data());
  nb::gil_scoped_release release;
  new (self) Linear(n_in, n_out, p, positions.shape(0), first_gradient_input);
}

constexpr size_t kMostSamples = (1u << 28) - 1;

// The inputs of a pass, concatenated along features.
struct Inputs {
  using Part = std::variant<std::shared_ptr<PackedInput>, ReadOnlyArray>; // own what they refer to
  std::vector<Input> parts;
  uint32_t batch = 0;

  Inputs(const Stack& stack, const std::vector<Part>& inputs) {
    size_t features = 0;
    std::vector<size_t> first;
    for (const Part& input : inputs) {
      const auto* packed = std::get_if<std::shared_ptr<PackedInput>>(&input);
      const auto* array = std::get_if<ReadOnlyArray>(&input);
      if (packed && !*packed) throw nb::type_error("stack: an input is None");
      if (array) check<float>(*array, "stack: input");
      const std::vector<size_t> shape =
          packed ? std::vector<size_t>{(*packed)->batch, (*packed)->features} : shape_of(*array);
      if (parts.empty()) first = shape;
      if (shape.size() != 2 || shape[0] == 0 || shape[0] != first[0] || shape[0] > kMostSamples)
        throw std::invalid_argument(
            "stack: inputs must have shape (batch, features), with equal batches in [1, 2^28), "
            "but the first has " +
            shape_text(first) +
            (parts.empty()
                 ? ""
                 : " and input " + std::to_string(parts.size()) + " has " + shape_text(shape)));
      features += shape[1];
      parts.push_back(packed ? (*packed)->input()
                             : Input{static_cast<const float*>(array->data()), uint32_t(shape[1])});
    }
    if (features != stack.n_in())
      throw std::invalid_argument("stack: inputs have " + std::to_string(features) +
                                  " features, but the network has " + std::to_string(stack.n_in()) +
                                  " inputs");
    batch = uint32_t(first[0]);
  }
};

void new_packed_input(PackedInput* self, ReadOnlyArray samples) {
  check<float>(samples, "packed input: samples");
  if (samples.ndim() != 2 || samples.shape(0) == 0 || samples.shape(0) > kMostSamples ||
      samples.shape(1) >= 1u << 28)
    throw std::invalid_argument(
        "packed input: samples must have shape (batch, features), with a batch in [1, 2^28) and "
        "fewer than 2^28 features, but have " +
        shape_text(shape_of(samples)));
  nb::gil_scoped_release release;
  new (self) PackedInput(static_cast<const float*>(samples.data()), uint32_t(samples.shape(0)),
                         uint32_t(samples.shape(1)));
}

Activation activation(const std::string& name) {
  if (name == "linear") return Activation::none;
  if (name == "relu") return Activation::relu;
  if (name == "tanh") return Activation::tanh;
  throw std::invalid_argument("stack: activation is '" + name +
                              "' but must be linear, relu or tanh");
}

nb::tuple forward(const std::shared_ptr<Stack>& stack, ReadOnlyArray parameters,
                  const std::vector<Inputs::Part>& inputs, Pool pool) {
  const float* p = checked<float>(parameters, "forward: parameters", {stack->parameters()});
  const Inputs parts(*stack, inputs);
  const uint32_t batch = parts.batch;
  FloatArray output = new_array({stack->members(), batch, stack->n_out()});
  float* y = output.data();
  std::optional<Trace> trace;
  const Pool threads = pool_or_caller(std::move(pool));
  {
    nb::gil_scoped_release release;
    trace.emplace(stack->forward(*threads, p, parts.parts, batch, y));
  }
  return nb::make_tuple(output, std::move(*trace));
}

FloatArray outputs(const Stack& stack, ReadOnlyArray parameters,
                   const std::vector<Inputs::Part>& inputs, Pool pool) {
  const float* p = checked<float>(parameters, "outputs: parameters", {stack.parameters()});
  const Inputs parts(stack, inputs);
  const uint32_t batch = parts.batch;
  FloatArray output = new_array({stack.members(), batch, stack.n_out()});
  float* y = output.data();
  const Pool threads = pool_or_caller(std::move(pool));
  {
    nb::gil_scoped_release release;
    stack.outputs(*threads, p, parts.parts, batch, y);
  }
  return output;
}

void check_place(const Stack& stack, uint32_t member, uint32_t layer) {
  if (member >= stack.members() || layer >= stack.depth())
    throw nb::index_error(("stack: layer " + std::to_string(layer) + " of member " +
                           std::to_string(member) + " does not exist; there are " +
                           std::to_string(stack.members()) + " members with " +
                           std::to_string(stack.depth()) + " layers each")
                              .c_str());
}

nb::tuple bind_value_and_input_gradient(const Stack& stack, ReadOnlyArray parameters,
                                        const std::vector<Inputs::Part>& inputs, double weight,
                                        std::optional<uint32_t> member, Pool pool) {
  if (stack.n_out() != 1)
    throw std::invalid_argument("value_and_input_gradient: the network has " +
                                std::to_string(stack.n_out()) + " outputs but must have one");
  if (stack.output_activation() != Activation::none)
    throw std::invalid_argument("value_and_input_gradient: the last layer must be linear");
  const float* p =
      checked<float>(parameters, "value_and_input_gradient: parameters", {stack.parameters()});
  const Inputs parts(stack, inputs);
  if (member) check_place(stack, *member, 0);
  const uint32_t batch = parts.batch;
  FloatArray value = new_array({batch, 1});
  FloatArray gradient = new_array({batch, stack.gradient_inputs()});
  float *v = value.data(), *g = gradient.data();
  const Pool threads = pool_or_caller(std::move(pool));
  {
    nb::gil_scoped_release release;
    value_and_input_gradient(stack, *threads, p, parts.parts, batch, member.value_or(0),
                             member ? 1 : stack.members(), float(weight), v, g);
  }
  return nb::make_tuple(value, gradient);
}

template <class Parameters, class Pointer>
const float* checked_pass(const Stack& stack, const Parameters& parameters, const Trace& trace,
                          const ReadOnlyArray& output_gradient, Pointer& p) {
  if (trace.stack.get() != &stack)
    throw std::invalid_argument(
        "stack: the trace comes from another network or is older than a topology update; call "
        "forward again");
  p = checked<float>(parameters, "stack: parameters", {stack.parameters()});
  return checked<float>(output_gradient, "stack: output_gradient",
                        {stack.members(), trace.batch, stack.n_out()});
}

std::optional<FloatArray> gradient(const Stack& stack, ReadOnlyArray parameters, const Trace& trace,
                                   ReadOnlyArray output_gradient, Array out, bool inputs,
                                   Pool pool) {
  const float* p;
  const float* d = checked_pass(stack, parameters, trace, output_gradient, p);
  float* g = checked<float>(out, "gradient: out", {stack.parameters()});
  check_disjoint("gradient", {{"out", out}},
                 {{"parameters", parameters}, {"output_gradient", output_gradient}});
  std::optional<FloatArray> result;
  if (inputs) result = new_array({stack.members(), trace.batch, stack.gradient_inputs()});
  float* to_inputs = result ? result->data() : nullptr;
  const Pool threads = pool_or_caller(std::move(pool));
  {
    nb::gil_scoped_release release;
    stack.gradient(*threads, p, trace, d, g, to_inputs);
  }
  return result;
}

BoundPendingWork bind_adam_step(const Stack& stack, Array parameters, const Trace& trace,
                                ReadOnlyArray output_gradient, Array m, Array v, uint64_t step,
                                double learning_rate, double beta1, double beta2, double epsilon,
                                double weight_decay, Pool pool) {
  float* p;
  const float* d = checked_pass(stack, parameters, trace, output_gradient, p);
  if (step == 0) throw std::invalid_argument("adam_step: step is 0 but must be at least 1");
  float* first = checked<float>(m, "adam_step: m", {stack.parameters()});
  float* second = checked<float>(v, "adam_step: v", {stack.parameters()});
  check_disjoint("adam_step", {{"parameters", parameters}, {"m", m}, {"v", v}},
                 {{"output_gradient", output_gradient}});
  const AdamStep scalars = adam_step(step, {learning_rate, beta1, beta2, epsilon, weight_decay});
  const Pool threads = pool_or_caller(std::move(pool));
  const auto begin = [&] {
    nb::gil_scoped_release release;
    return stack.adam_step(*threads, p, trace, d, first, second, scalars);
  };
  return {
      {nb::find(trace)}, {nb::ndarray<>(parameters), nb::ndarray<>(m), nb::ndarray<>(v)}, begin()};
}

nb::tuple gradient_factors(const Stack& stack, ReadOnlyArray parameters, const Trace& trace,
                           ReadOnlyArray output_gradient, uint32_t member, uint32_t layer,
                           Pool pool) {
  const float* p;
  const float* d = checked_pass(stack, parameters, trace, output_gradient, p);
  check_place(stack, member, layer);
  FloatArray dy = new_array({stack.layer(member, layer).n_out, trace.batch});
  FloatArray x = new_array({stack.layer(member, layer).n_in, trace.batch});
  float *to_dy = dy.data(), *to_x = x.data();
  const Pool threads = pool_or_caller(std::move(pool));
  {
    nb::gil_scoped_release release;
    stack.gradient_factors(*threads, p, trace, d, member, layer, to_dy, to_x);
  }
  return nb::make_tuple(dy, x);
}

} // namespace

void bind_network(nb::module_& m) {
  nb::class_<Layer>(m, "Layer", "An immutable layer of one member of a network.")
      .def_ro("n_in", &Layer::n_in)
      .def_ro("n_out", &Layer::n_out)
      .def_prop_ro(
          "canonical_index",
          [](const Layer& layer) {
            return IndexArray(layer.canonical_order().data(), {layer.canonical_order().size()});
          },
          nb::for_getter(nb::sig("def canonical_index(self) -> " INDICES)),
          "For each stored weight, its connection's index in canonical order, uint32 [N].");

  nb::class_<Linear, Layer>(
      m, "Linear",
      "The layer W x + b, with its connections in the order in which the kernels process\nthem.")
      .def("__init__", &new_linear, "n_in"_a, "n_out"_a, "positions"_a,
           "first_gradient_input"_a = 0,
           nb::sig("def __init__(self, n_in: int, n_out: int, positions: " POSITIONS
                   ", first_gradient_input: int = 0) -> None"),
           "Sort connections for the kernels.\n\n"
           "positions: int64 [N], strictly ascending, output * n_in + input of each connection.\n"
           "first_gradient_input: gradients are not computed for inputs before this one.\n"
           "No other thread may write to positions during the call.\n"
           "Raises ValueError if positions or sizes are out of range or positions do not ascend.")
      .def_prop_ro("connections", &Linear::connections);

  nb::class_<PackedInput>(m, "PackedInput",
                          "Samples in the kernels' memory layout, for use in several passes.")
      .def("__init__", &new_packed_input, "samples"_a,
           nb::sig("def __init__(self, samples: " FLOATS ") -> None"),
           "Pack samples, float32 [B, features].")
      .def_ro("batch", &PackedInput::batch)
      .def_ro("features", &PackedInput::features);

  nb::class_<Trace>(m, "Trace", "The activations of a forward pass, which backward passes need.")
      .def_ro("batch", &Trace::batch);

  nb::class_<Stack>(
      m, "Stack", "An immutable sequence of layers, for one network or the members of an ensemble.")
      .def(nb::new_([](const std::vector<std::vector<std::shared_ptr<Layer>>>& members,
                       const std::vector<std::string>& activations) {
             std::vector<std::vector<std::shared_ptr<const Layer>>> layers;
             for (const auto& stack : members) {
               for (const auto& layer : stack)
                 if (!layer) throw nb::type_error("stack: a layer is None");
               layers.emplace_back(stack.begin(), stack.end());
             }
             std::vector<Activation> following;
             for (const auto& name : activations) following.push_back(activation(name));
             return std::make_shared<Stack>(std::move(layers), std::move(following));
           }),
           "members"_a, "activations"_a,
           "Build a stack from the layers of each member.\n\n"
           "activations: linear, relu or tanh for each layer of a member. All members must have\n"
           "layers of the same shapes, and only first layers may set first_gradient_input.")
      .def_prop_ro("parameters", &Stack::parameters)
      .def(
          "offset",
          [](const Stack& stack, uint32_t member, uint32_t layer) {
            check_place(stack, member, layer);
            return stack.offset(member, layer);
          },
          "member"_a, "layer"_a, "Return the index of a layer's first parameter in the flat array.")
      .def("forward", &forward, "parameters"_a, "inputs"_a, "pool"_a = nb::none(),
           nb::sig("def forward(self, parameters: " FLOATS ", inputs: " INPUTS POOL
                   ") -> tuple[" FLOATS ", Trace]"),
           "Compute the outputs, float32 [E, B, n_out], and a Trace for backward passes.\n\n"
           "E is the number of members. Each input is float32 [B, features] or a PackedInput; the\n"
           "inputs are concatenated along their features.")
      .def("outputs", &outputs, "parameters"_a, "inputs"_a, "pool"_a = nb::none(),
           nb::sig("def outputs(self, parameters: " FLOATS ", inputs: " INPUTS POOL ") -> " FLOATS),
           "Compute the same outputs as forward, without a Trace.")
      .def("value_and_input_gradient", &bind_value_and_input_gradient, "parameters"_a, "inputs"_a,
           "weight"_a, "member"_a = nb::none(), "pool"_a = nb::none(),
           nb::sig("def value_and_input_gradient(self, parameters: " FLOATS ", inputs: " INPUTS
                   ", weight: float, member: int | None = None" POOL ") -> tuple[" FLOATS
                   ", " FLOATS "]"),
           "Compute the smallest output over all members, or the output of one member.\n\n"
           "The network must have one linear output. Returns this value, float32 [B, 1], and the\n"
           "gradient of weight * sum(value) with respect to the inputs from first_gradient_input\n"
           "on, float32 [B, n_in - first_gradient_input].")
      .def("gradient", &gradient, "parameters"_a, "trace"_a, "output_gradient"_a, "out"_a,
           "inputs"_a = false, "pool"_a = nb::none(),
           nb::sig("def gradient(self, parameters: " FLOATS
                   ", trace: Trace, output_gradient: " FLOATS ", out: " FLOATS
                   ", inputs: bool = False" POOL ") -> " FLOATS " | None"),
           "Write the gradient of sum(output * output_gradient) to out, float32 [parameters].\n\n"
           "out receives the gradient with respect to the parameters. If `inputs` is set, return\n"
           "the gradient with respect to the inputs from first_gradient_input on, float32\n"
           "[E, B, n_in - first_gradient_input], and otherwise None.")
      .def("adam_step", &bind_adam_step, "parameters"_a, "trace"_a, "output_gradient"_a, "m"_a,
           "v"_a, "step"_a, "learning_rate"_a, "beta1"_a, "beta2"_a, "epsilon"_a, "weight_decay"_a,
           "pool"_a = nb::none(),
           nb::sig("def adam_step(self, parameters: " FLOATS
                   ", trace: Trace, output_gradient: " FLOATS ", m: " FLOATS ", v: " FLOATS
                   ", step: int, learning_rate: float, beta1: float, beta2: float, "
                   "epsilon: float, weight_decay: float" POOL ") -> PendingWork"),
           "Apply one step of Adam in place, with L2 weight decay in the gradient.\n\n"
           "`step` counts from 1. The moments m and v are float32 [parameters]. The step may be\n"
           "unfinished until finish() of the returned object has been called.")
      .def("gradient_factors", &gradient_factors, "parameters"_a, "trace"_a, "output_gradient"_a,
           "member"_a, "layer"_a, "pool"_a = nb::none(),
           nb::sig("def gradient_factors(self, parameters: " FLOATS
                   ", trace: Trace, output_gradient: " FLOATS ", member: int, layer: int" POOL
                   ") -> tuple[" FLOATS ", " FLOATS "]"),
           "Return dY, float32 [n_out, B], and X, float32 [n_in, B], of one layer.\n\n"
           "The dense weight gradient is dY X^T; it includes connections that do not exist.");
}

} // namespace sparl

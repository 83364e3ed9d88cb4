// The only file that knows Python: shapes, dtypes and contiguity are checked here, contents by the
// core; nothing is converted, and the interpreter's lock is released while the engine computes (not
// in the short find_sorted, whose array another thread may write, and integers). A generator's own
// lock is not taken: nobody else uses it.
#include "bench.h"
#include "dispatch.h"
#include "flat.h"
#include "network.h"
#include "threads.h"
#include "windows.h"
#include <algorithm>
#include <cstdlib>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <numpy/random/bitgen.h>
#include <optional>

extern "C" { // NumPy's
void random_standard_normal_fill_f(bitgen_t*, intptr_t count, float* to);
void random_bounded_uint64_fill(bitgen_t*, uint64_t low, uint64_t range, intptr_t count,
                                bool masked, uint64_t* to);
}

namespace nb = nanobind;
using namespace nb::literals;
using namespace sparl;

namespace {

using Array = nb::ndarray<nb::numpy, nb::device::cpu>;
using ReadOnlyArray = nb::ndarray<nb::numpy, nb::ro, nb::device::cpu>;
template <class T>
using NewArray = nb::ndarray<nb::numpy, T, nb::c_contig, nb::device::cpu>;
using FloatArray = NewArray<float>;
using IndexArray =
    nb::ndarray<nb::numpy, const uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::string shape_text(const std::vector<size_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); i++) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

template <class A>
std::vector<size_t> shape_of(const A& a) {
  std::vector<size_t> shape(a.ndim());
  for (size_t i = 0; i < a.ndim(); i++) shape[i] = a.shape(i);
  return shape;
}

std::string dtype_text(nb::dlpack::dtype dtype) {
  using Code = nb::dlpack::dtype_code;
  const std::string bits = std::to_string(dtype.bits);
  switch (Code(dtype.code)) {
    case Code::Bool:
      return "bool";
    case Code::Float:
      return "float" + bits;
    case Code::Int:
      return "int" + bits;
    case Code::UInt:
      return "uint" + bits;
    case Code::Complex:
      return "complex" + bits;
    default:
      return "of another kind";
  }
}

// dtype T, C order and an aligned address, or an error that names the argument.
template <class T, class A>
void check(const A& a, const char* name) {
  if (a.dtype() != nb::dtype<T>()) {
    const std::string is = dtype_text(a.dtype());
    const std::string wanted = std::is_same_v<T, float>      ? "float32"
                               : std::is_same_v<T, uint32_t> ? "uint32"
                               : std::is_same_v<T, uint8_t>  ? "uint8"
                                                             : "int64";
    throw nb::type_error((std::string(name) + " must be " + wanted + ", is " + is).c_str());
  }
  int64_t expected = a.size() ? 1 : 0; // an empty array's strides mean nothing
  for (size_t i = a.ndim(); expected && i-- > 0;) {
    if (a.shape(i) > 1 && a.stride(i) != expected)
      throw std::invalid_argument(std::string(name) + " must be contiguous in C order");
    expected *= int64_t(a.shape(i));
  }
  if (a.size() && reinterpret_cast<uintptr_t>(a.data()) % alignof(T) != 0)
    throw std::invalid_argument(std::string(name) + " must be aligned to " +
                                std::to_string(alignof(T)) + " bytes");
}

// The bytes of an argument.
struct Region {
  const char* name;
  uintptr_t begin, end;

  template <class A>
  Region(const char* argument, const A& a)
      : name(argument), begin(reinterpret_cast<uintptr_t>(a.data())), end(begin + a.nbytes()) {}

  bool overlaps(const Region& other) const {
    return std::max(begin, other.begin) < std::min(end, other.end);
  }
};

// Nothing that a function writes may share memory with anything else that it is given.
void check_disjoint(const char* function, const std::vector<Region>& written,
                    const std::vector<Region>& read) {
  const auto check_pair = [&](const Region& a, const Region& b) {
    if (a.overlaps(b))
      throw std::invalid_argument(std::string(function) + ": " + a.name + " and " + b.name +
                                  " must not overlap in memory");
  };
  for (size_t i = 0; i < written.size(); i++) {
    for (size_t j = i + 1; j < written.size(); j++) check_pair(written[i], written[j]);
    for (const Region& region : read) check_pair(written[i], region);
  }
}

template <class T, class A>
auto* checked(const A& a, const char* name, const std::vector<size_t>& shape) {
  check<T>(a, name);
  if (shape_of(a) != shape)
    throw std::invalid_argument(std::string(name) + " must have shape " + shape_text(shape) +
                                ", has " + shape_text(shape_of(a)));
  using Value = std::conditional_t<std::is_same_v<A, ReadOnlyArray>, const T, T>;
  return static_cast<Value*>(a.data());
}

template <class T = float>
NewArray<T> new_array(const std::vector<size_t>& shape) {
  size_t n = 1;
  for (size_t s : shape)
    if (__builtin_mul_overflow(n, s, &n)) throw std::bad_alloc();
  auto* data = new T[n ? n : 1];
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return NewArray<T>(data, shape.size(), shape.data(), owner);
}

void new_layer(Layer* self, uint32_t n_in, uint32_t n_out, ReadOnlyArray positions,
               uint32_t first_gradient_input) {
  if (positions.ndim() != 1) throw std::invalid_argument("layer: positions must have one axis");
  check<int64_t>(positions, "layer: positions");
  const auto* p = static_cast<const int64_t*>(positions.data());
  nb::gil_scoped_release release;
  new (self) Layer(n_in, n_out, p, positions.shape(0), first_gradient_input);
}

std::vector<Input> checked_inputs(const Stack& stack, const std::vector<ReadOnlyArray>& inputs) {
  std::vector<Input> parts;
  size_t features = 0;
  for (const auto& input : inputs) {
    check<float>(input, "forward: input");
    if (input.ndim() != 2 || input.shape(0) == 0 || input.shape(0) != inputs[0].shape(0) ||
        input.shape(0) >= 1u << 28)
      throw std::invalid_argument("forward: inputs must have shape (batch, features), are " +
                                  shape_text(shape_of(inputs[0])) + " and " +
                                  shape_text(shape_of(input)));
    features += input.shape(1);
    parts.push_back({static_cast<const float*>(input.data()), uint32_t(input.shape(1))});
  }
  if (features != stack.n_in())
    throw std::invalid_argument("forward: inputs have " + std::to_string(features) +
                                " features, the network has " + std::to_string(stack.n_in()));
  return parts;
}

nb::tuple forward(const std::shared_ptr<Stack>& stack, ReadOnlyArray parameters,
                  const std::vector<ReadOnlyArray>& inputs) {
  const float* p = checked<float>(parameters, "forward: parameters", {stack->parameters()});
  const std::vector<Input> parts = checked_inputs(*stack, inputs);
  const uint32_t batch = uint32_t(inputs[0].shape(0));
  FloatArray output = new_array({stack->members(), batch, stack->n_out()});
  float* y = output.data();
  std::optional<Trace> trace;
  {
    nb::gil_scoped_release release;
    trace.emplace(stack->forward(p, parts, batch, y));
  }
  return nb::make_tuple(output, std::move(*trace));
}

FloatArray outputs(const Stack& stack, ReadOnlyArray parameters,
                   const std::vector<ReadOnlyArray>& inputs) {
  const float* p = checked<float>(parameters, "forward: parameters", {stack.parameters()});
  const std::vector<Input> parts = checked_inputs(stack, inputs);
  const uint32_t batch = uint32_t(inputs[0].shape(0));
  FloatArray output = new_array({stack.members(), batch, stack.n_out()});
  float* y = output.data();
  {
    nb::gil_scoped_release release;
    stack.outputs(p, parts, batch, y);
  }
  return output;
}

void check_place(const Stack& stack, uint32_t member, uint32_t layer) {
  if (member >= stack.members() || layer >= stack.depth())
    throw nb::index_error(("stack: member " + std::to_string(member) + " of " +
                           std::to_string(stack.members()) + ", layer " + std::to_string(layer) +
                           " of " + std::to_string(stack.depth()))
                              .c_str());
}

nb::tuple value_and_input_gradient(const Stack& stack, ReadOnlyArray parameters,
                                   const std::vector<ReadOnlyArray>& inputs, double weight,
                                   std::optional<uint32_t> member) {
  if (stack.n_out() != 1)
    throw std::invalid_argument("value_and_input_gradient: " + std::to_string(stack.n_out()) +
                                " outputs, must be one");
  if (stack.output() != Output::linear)
    throw std::invalid_argument("value_and_input_gradient: the output is tanh, must be linear");
  const float* p =
      checked<float>(parameters, "value_and_input_gradient: parameters", {stack.parameters()});
  const std::vector<Input> parts = checked_inputs(stack, inputs);
  if (member) check_place(stack, *member, 0);
  const uint32_t batch = uint32_t(inputs[0].shape(0));
  FloatArray value = new_array({batch, 1});
  FloatArray gradient = new_array({batch, stack.gradient_inputs()});
  float *v = value.data(), *g = gradient.data();
  {
    nb::gil_scoped_release release;
    stack.value_and_input_gradient(p, parts, batch, member.value_or(0),
                                   member ? 1 : stack.members(), float(weight), v, g);
  }
  return nb::make_tuple(value, gradient);
}

template <class Parameters, class Pointer>
const float* checked_pass(const Stack& stack, const Parameters& parameters, const Trace& trace,
                          const ReadOnlyArray& output_gradient, Pointer& p) {
  if (trace.stack.get() != &stack)
    throw std::invalid_argument(
        "gradient: the trace comes from another network or from before a "
        "topology update; run forward again");
  p = checked<float>(parameters, "gradient: parameters", {stack.parameters()});
  return checked<float>(output_gradient, "gradient: output_gradient",
                        {stack.members(), trace.batch, stack.n_out()});
}

std::optional<FloatArray> gradient(const Stack& stack, ReadOnlyArray parameters, const Trace& trace,
                                   ReadOnlyArray output_gradient, Array out, bool inputs) {
  const float* p;
  const float* d = checked_pass(stack, parameters, trace, output_gradient, p);
  float* g = checked<float>(out, "gradient: out", {stack.parameters()});
  check_disjoint("gradient", {{"out", out}},
                 {{"parameters", parameters}, {"output_gradient", output_gradient}});
  std::optional<FloatArray> result;
  if (inputs) result = new_array({stack.members(), trace.batch, stack.gradient_inputs()});
  float* to_inputs = result ? result->data() : nullptr;
  {
    nb::gil_scoped_release release;
    stack.gradient(p, trace, d, g, to_inputs);
  }
  return result;
}

Later bind_adam_step(const Stack& stack, Array parameters, const Trace& trace,
                     ReadOnlyArray output_gradient, Array m, Array v, uint64_t step,
                     double learning_rate, double beta1, double beta2, double epsilon,
                     double weight_decay) {
  float* p;
  const float* d = checked_pass(stack, parameters, trace, output_gradient, p);
  if (step == 0) throw std::invalid_argument("adam_step: step counts from 1");
  float* first = checked<float>(m, "adam_step: m", {stack.parameters()});
  float* second = checked<float>(v, "adam_step: v", {stack.parameters()});
  check_disjoint("adam_step", {{"parameters", parameters}, {"m", m}, {"v", v}},
                 {{"output_gradient", output_gradient}});
  const AdamStep scalars = adam_step(step, {learning_rate, beta1, beta2, epsilon, weight_decay});
  nb::gil_scoped_release release;
  return stack.adam_step(p, trace, d, first, second, scalars);
}

nb::tuple gradient_factors(const Stack& stack, ReadOnlyArray parameters, const Trace& trace,
                           ReadOnlyArray output_gradient, uint32_t member, uint32_t layer) {
  const float* p;
  const float* d = checked_pass(stack, parameters, trace, output_gradient, p);
  check_place(stack, member, layer);
  FloatArray dy = new_array({stack.layer(member, layer).n_out, trace.batch});
  FloatArray x = new_array({stack.layer(member, layer).n_in, trace.batch});
  float *to_dy = dy.data(), *to_x = x.data();
  {
    nb::gil_scoped_release release;
    stack.gradient_factors(p, trace, d, member, layer, to_dy, to_x);
  }
  return nb::make_tuple(dy, x);
}

void bind_follow(Array target, ReadOnlyArray online, double tau) {
  if (target.ndim() != 1) throw std::invalid_argument("follow: target must have one axis");
  const size_t n = target.shape(0);
  float* t = checked<float>(target, "follow: target", {n});
  const float* o = checked<float>(online, "follow: online", {n});
  check_disjoint("follow", {{"target", target}}, {{"online", online}});
  nb::gil_scoped_release release;
  follow(n, t, o, float(tau));
}

bitgen_t* bits_of(const nb::object& bit_generator) {
  nb::object capsule = bit_generator.attr("capsule");
  auto* bits = static_cast<bitgen_t*>(PyCapsule_GetPointer(capsule.ptr(), "BitGenerator"));
  if (!bits) throw nb::python_error();
  return bits;
}

NewArray<int64_t> integers(const nb::object& bit_generator, int64_t below, size_t count) {
  if (below < 1) throw std::invalid_argument("integers: below " + std::to_string(below));
  bitgen_t* bits = bits_of(bit_generator);
  auto drawn = new_array<int64_t>({count});
  random_bounded_uint64_fill(bits, 0, uint64_t(below) - 1, intptr_t(count), false,
                             reinterpret_cast<uint64_t*>(drawn.data()));
  return drawn;
}

Later standard_normal(const nb::object& bit_generator, Array to) {
  bitgen_t* bits = bits_of(bit_generator);
  float* out = checked<float>(to, "standard_normal: to", {to.size()});
  nb::gil_scoped_release release;
  return Later(
      1, [=, n = intptr_t(to.size())](uint32_t) { random_standard_normal_fill_f(bits, n, out); });
}

nb::tuple bind_squashed_normal(ReadOnlyArray heads, ReadOnlyArray noise, bool smooth) {
  if (noise.ndim() != 2) throw std::invalid_argument("squashed_normal: noise must have two axes");
  const size_t rows = noise.shape(0), n = noise.shape(1);
  const float* h = checked<float>(heads, "squashed_normal: heads", {rows, 2 * n});
  const float* eps = checked<float>(noise, "squashed_normal: noise", {rows, n});
  auto action = new_array({rows, n}), log_density = new_array({rows, 1});
  auto std = new_array({rows, n}), slope = new_array({rows, n});
  {
    nb::gil_scoped_release release;
    squashed_normal(rows, n, h, eps, smooth, action.data(), log_density.data(), std.data(),
                    slope.data());
  }
  return nb::make_tuple(action, log_density, std, slope);
}

FloatArray bind_squashed_normal_gradient(ReadOnlyArray action, ReadOnlyArray std,
                                         ReadOnlyArray noise, ReadOnlyArray slope,
                                         ReadOnlyArray d_action, double d_log_density) {
  if (action.ndim() != 2)
    throw std::invalid_argument("squashed_normal_gradient: action must have two axes");
  const std::vector<size_t> shape{action.shape(0), action.shape(1)};
  const float* a = checked<float>(action, "squashed_normal_gradient: action", shape);
  const float* s = checked<float>(std, "squashed_normal_gradient: std", shape);
  const float* eps = checked<float>(noise, "squashed_normal_gradient: noise", shape);
  const float* dl = checked<float>(slope, "squashed_normal_gradient: slope", shape);
  const float* da = checked<float>(d_action, "squashed_normal_gradient: d_action", shape);
  FloatArray d_heads = new_array({shape[0], 2 * shape[1]});
  float* to = d_heads.data();
  {
    nb::gil_scoped_release release;
    squashed_normal_gradient(shape[0], shape[1], a, s, eps, dl, da, float(d_log_density), to);
  }
  return d_heads;
}

std::pair<const int64_t*, const float*> checked_states(const ReadOnlyArray& states_of,
                                                       const ReadOnlyArray& states, size_t n_obs) {
  if (states_of.ndim() != 1) throw std::invalid_argument("windows: states_of must have one axis");
  const size_t count = states_of.shape(0);
  return {checked<int64_t>(states_of, "windows: states_of", {count}),
          checked<float>(states, "windows: states", {count, n_obs})};
}

// Windows that remember where they write, for the check of what finish() is given.
struct BoundWindows : Windows {
  BoundWindows(const RingView& ring, size_t known, size_t count, const int64_t* ages,
               const WindowArrays& to, std::vector<Region> written_)
      : Windows(ring, known, count, ages, to), written(std::move(written_)) {}
  std::vector<Region> written;
};

void new_windows(BoundWindows* self, ReadOnlyArray rows, size_t n_obs, size_t n_act, uint64_t first,
                 size_t size, size_t known, ReadOnlyArray states_of, ReadOnlyArray states,
                 ReadOnlyArray ages, ReadOnlyArray powers, nb::tuple arrays) {
  if (rows.ndim() != 2 || rows.shape(0) == 0)
    throw std::invalid_argument("windows: rows must have two axes and at least one row");
  const size_t capacity = rows.shape(0), stride = rows.shape(1);
  const auto* bytes = checked<uint8_t>(rows, "windows: rows", {capacity, stride});
  if (ages.ndim() != 1 || powers.ndim() != 1 || powers.shape(0) < 2)
    throw std::invalid_argument("windows: ages and powers must have one axis, powers two entries");
  std::vector<Array> to;
  if (!nb::try_cast(arrays, to)) throw nb::type_error("windows: what to fill must be arrays");
  if (to.size() != 5 && to.size() != 7)
    throw std::invalid_argument("windows: " + std::to_string(to.size()) + " arrays to fill");
  const size_t count = ages.shape(0), n = powers.shape(0) - 1;
  const int64_t* from = checked<int64_t>(ages, "windows: ages", {count});
  const auto [number, kept] = checked_states(states_of, states, n_obs);
  const bool paths = to.size() == 7;
  const RingView ring{capacity,           stride, n_obs, n_act, bytes, first, size,
                      states_of.shape(0), number, kept};
  const WindowArrays into{
      uint32_t(n),
      checked<float>(powers, "windows: powers", {n + 1}),
      checked<float>(to[0], "windows: observation", {count, n_obs}),
      checked<float>(to[1], "windows: action", {count, n_act}),
      checked<float>(to[2], "windows: reward", {count, 1}),
      checked<float>(to[3], "windows: discount", {count, 1}),
      checked<float>(to[4], "windows: reached", {count, n_obs}),
      paths ? checked<float>(to[5], "windows: path", {count, n, n_obs}) : nullptr,
      paths ? checked<float>(to[6], "windows: path discount", {count, n}) : nullptr};
  static const char* const names[] = {"observation", "action", "reward",       "discount",
                                      "reached",     "path",   "path discount"};
  std::vector<Region> written;
  for (size_t i = 0; i < to.size(); i++) written.emplace_back(names[i], to[i]);
  check_disjoint("windows", written,
                 {{"rows", rows},
                  {"states_of", states_of},
                  {"states", states},
                  {"ages", ages},
                  {"powers", powers}});
  nb::gil_scoped_release release;
  new (self) BoundWindows(ring, known, count, from, into, std::move(written));
}

void finish_windows(BoundWindows& gather, ReadOnlyArray states_of, ReadOnlyArray states) {
  const auto [number, kept] = checked_states(states_of, states, gather.n_obs());
  check_disjoint("windows", gather.written, {{"states_of", states_of}, {"states", states}});
  nb::gil_scoped_release release;
  gather.finish(states_of.shape(0), number, kept);
}

nb::tuple bind_find_sorted(ReadOnlyArray ascending, ReadOnlyArray needles) {
  if (ascending.ndim() != 1 || needles.ndim() != 1)
    throw std::invalid_argument("find_sorted: arrays must have one axis");
  const size_t size = ascending.shape(0), count = needles.shape(0);
  const int64_t* in = checked<int64_t>(ascending, "find_sorted: ascending", {size});
  const int64_t* of = checked<int64_t>(needles, "find_sorted: needles", {count});
  auto index = new_array<int64_t>({count});
  auto found = new_array<bool>({count});
  find_sorted(in, size, of, count, index.data(), found.data());
  return nb::make_tuple(index, found);
}

Timed timed(const std::string& kernel, uint32_t batch) {
  if (batch == 0 || batch >= 1u << 28)
    throw std::invalid_argument("bench: a batch of " + std::to_string(batch));
  if (kernel == "forward") return Timed::forward;
  if (kernel == "input gradient") return Timed::input_gradient;
  if (kernel == "weight gradient") return Timed::weight_gradient;
  throw std::invalid_argument("bench: kernel '" + kernel +
                              "', must be forward, input gradient or weight gradient");
}

template <double (*Measure)(const Layer&, Timed, uint32_t, double)>
double bind_seconds(const Layer& layer, const std::string& kernel, uint32_t batch, double least) {
  const Timed what = timed(kernel, batch);
  nb::gil_scoped_release release;
  return Measure(layer, what, batch, least);
}

std::vector<uint32_t> copied(const std::optional<ReadOnlyArray>& array, const char* name,
                             size_t size) {
  if (!array) return {};
  const uint32_t* data = checked<uint32_t>(*array, name, {size});
  return {data, data + size};
}

void new_follower(Follower* self,
                  const std::vector<std::tuple<std::pair<size_t, size_t>, std::pair<size_t, size_t>,
                                               std::optional<ReadOnlyArray>,
                                               std::optional<ReadOnlyArray>, size_t>>& pieces) {
  std::vector<Follower::Piece> list;
  for (const auto& [target, online, source, canonical, budget] : pieces) {
    if (target.first > target.second || online.first > online.second)
      throw std::invalid_argument("follower: a piece ends before it starts");
    const size_t n = target.second - target.first;
    list.push_back({target.first, n, online.first, online.second - online.first,
                    copied(source, "follower: source", n),
                    copied(canonical, "follower: canonical", n), budget});
  }
  new (self) Follower(std::move(list));
}

Later follower_follow(const Follower& follower, Array target, ReadOnlyArray online, double tau) {
  if (target.ndim() != 1 || online.ndim() != 1)
    throw std::invalid_argument("follow: target and online must have one axis");
  if (target.shape(0) < follower.target_end() || online.shape(0) < follower.online_end())
    throw std::invalid_argument(
        "follow: the pieces reach to " + std::to_string(follower.target_end()) + " and " +
        std::to_string(follower.online_end()) + ", target has " + std::to_string(target.shape(0)) +
        " entries, online " + std::to_string(online.shape(0)));
  float* t = checked<float>(target, "follow: target", {target.shape(0)});
  const float* o = checked<float>(online, "follow: online", {online.shape(0)});
  check_disjoint("follow", {{"target", target}}, {{"online", online}});
  nb::gil_scoped_release release;
  return follower.follow(t, o, float(tau));
}

} // namespace

#define FLOATS "numpy.typing.NDArray[numpy.float32]"
#define INDICES "numpy.typing.NDArray[numpy.uint32]"
#define FLAGS "numpy.typing.NDArray[numpy.bool_]"
#define BYTES "numpy.typing.NDArray[numpy.uint8]"
#define POSITIONS "numpy.typing.NDArray[numpy.int64]"

NB_MODULE(_native, m) {
  nb::set_leak_warnings(false); // objects alive at exit are the interpreter's business
  m.doc() = "The sparse engine: arrays and loops. Use it through sparl.networks.";
  const char* forced = std::getenv("SPARL_ISA");
  if (forced && *forced) {
    try {
      use_kernels(forced);
    } catch (const std::exception& error) {
      throw nb::import_error(error.what());
    }
  }

  m.def("isa", [] { return std::string(kernels().name); }, "The instruction set in use.");
  m.def(
      "available_isas",
      [] {
        std::vector<std::string> names;
        for (const Kernels* table : available_kernels()) names.emplace_back(table->name);
        return names;
      },
      "Instruction sets that this build and this processor can run, best last.");
  m.def("use_isa", &use_kernels, "name"_a,
        "Force an instruction set; ValueError if it cannot run.");
  m.def("threads", &threads, "Threads a network pass may use.");
  m.def(
      "set_threads",
      [](uint32_t count) {
        if (count == 0 || count > 1024)
          throw std::invalid_argument("set_threads: " + std::to_string(count) +
                                      " threads, must be in [1, 1024]");
        set_threads(count);
      },
      "count"_a, "Set the number of threads; results do not depend on it.");

  nb::class_<Layer>(m, "Layer", "One layer's connections as the kernels walk them. Immutable.")
      .def("__init__", &new_layer, "n_in"_a, "n_out"_a, "positions"_a, "first_gradient_input"_a = 0,
           nb::sig("def __init__(self, n_in: int, n_out: int, positions: " POSITIONS
                   ", first_gradient_input: int = 0) -> None"),
           "positions: int64 [N], strictly ascending output * n_in + input. Inputs before\n"
           "first_gradient_input are never differentiated.")
      .def_ro("n_in", &Layer::n_in)
      .def_ro("n_out", &Layer::n_out)
      .def_prop_ro("connections", &Layer::connections)
      .def_prop_ro(
          "canonical_index",
          [](const Layer& layer) {
            return IndexArray(layer.canonical_index.data(), {layer.canonical_index.size()});
          },
          nb::for_getter(nb::sig("def canonical_index(self) -> " INDICES)),
          "uint32 [N]: for each kernel slot, its index in canonical order.");

  nb::class_<Trace>(m, "Trace", "What a forward pass leaves for the backward passes.")
      .def_ro("batch", &Trace::batch);

  nb::class_<Later>(m, "Unfinished",
                    "What goes on beside what its caller does; it holds what it needs.")
      .def("finish", &Later::finish, nb::call_guard<nb::gil_scoped_release>(),
           "Do what is left of it, and return when all is done; so does its end.");

  nb::class_<Stack>(m, "Stack", "Layers after layers, for one or several members. Immutable.")
      .def(
          nb::new_([](const std::vector<std::vector<std::shared_ptr<Layer>>>& members,
                      const std::string& output) {
            if (output != "linear" && output != "tanh")
              throw std::invalid_argument("stack: output '" + output + "', must be linear or tanh");
            std::vector<std::vector<std::shared_ptr<const Layer>>> layers;
            for (const auto& stack : members) {
              for (const auto& layer : stack)
                if (!layer) throw nb::type_error("stack: a layer is None");
              layers.emplace_back(stack.begin(), stack.end());
            }
            return std::make_shared<Stack>(std::move(layers),
                                           output == "tanh" ? Output::tanh : Output::linear);
          }),
          "members"_a, "output"_a)
      .def_prop_ro("parameters", &Stack::parameters)
      .def(
          "weights_at",
          [](const Stack& stack, uint32_t member, uint32_t layer) {
            check_place(stack, member, layer);
            return stack.weights_at(member, layer);
          },
          "member"_a, "layer"_a, "Where a layer's weights begin in the flat array.")
      .def(
          "biases_at",
          [](const Stack& stack, uint32_t member, uint32_t layer) {
            check_place(stack, member, layer);
            return stack.biases_at(member, layer);
          },
          "member"_a, "layer"_a, "Where a layer's biases begin in the flat array.")
      .def("forward", &forward, "parameters"_a, "inputs"_a,
           nb::sig("def forward(self, parameters: " FLOATS
                   ", inputs: collections.abc.Sequence[" FLOATS "]) -> tuple[" FLOATS ", Trace]"),
           "inputs: float32 [B, n_i], joined along features. Returns float32 [E, B, n_out] and a\n"
           "Trace.")
      .def("outputs", &outputs, "parameters"_a, "inputs"_a,
           nb::sig("def outputs(self, parameters: " FLOATS
                   ", inputs: collections.abc.Sequence[" FLOATS "]) -> " FLOATS),
           "What forward returns, without a Trace.")
      .def("value_and_input_gradient", &value_and_input_gradient, "parameters"_a, "inputs"_a,
           "weight"_a, "member"_a = nb::none(),
           nb::sig("def value_and_input_gradient(self, parameters: " FLOATS
                   ", inputs: collections.abc.Sequence[" FLOATS
                   "], weight: float, member: int | None = None) -> tuple[" FLOATS ", " FLOATS "]"),
           "The smallest output of all members, or that of one, float32 [B, 1], and\n"
           "d weight sum(it) / d inputs, float32 [B, differentiated inputs].")
      .def("gradient", &gradient, "parameters"_a, "trace"_a, "output_gradient"_a, "out"_a,
           "inputs"_a = false,
           nb::sig("def gradient(self, parameters: " FLOATS
                   ", trace: Trace, output_gradient: " FLOATS ", out: " FLOATS
                   ", inputs: bool = False) -> " FLOATS " | None"),
           "Writes d sum(output * output_gradient) / d parameters into out, float32 [parameters].\n"
           "With inputs, also returns the same / d inputs, float32 [E, B, differentiated inputs].")
      .def("adam_step", &bind_adam_step, nb::keep_alive<0, 1>(), nb::keep_alive<0, 2>(),
           nb::keep_alive<0, 3>(), nb::keep_alive<0, 5>(), nb::keep_alive<0, 6>(), "parameters"_a,
           "trace"_a, "output_gradient"_a, "m"_a, "v"_a, "step"_a, "learning_rate"_a, "beta1"_a,
           "beta2"_a, "epsilon"_a, "weight_decay"_a,
           nb::sig("def adam_step(self, parameters: " FLOATS
                   ", trace: Trace, output_gradient: " FLOATS ", m: " FLOATS ", v: " FLOATS
                   ", step: int, learning_rate: float, beta1: float, beta2: float, "
                   "epsilon: float, weight_decay: float) -> Unfinished"),
           "One step of Adam down what gradient gives, with L2 in it, in place; step counts from "
           "1.\n"
           "It may go on when this returns.")
      .def("gradient_factors", &gradient_factors, "parameters"_a, "trace"_a, "output_gradient"_a,
           "member"_a, "layer"_a,
           nb::sig("def gradient_factors(self, parameters: " FLOATS
                   ", trace: Trace, output_gradient: " FLOATS
                   ", member: int, layer: int) -> tuple[" FLOATS ", " FLOATS "]"),
           "dY float32 [n_out, B] and X float32 [n_in, B] of one layer: its weight gradient is\n"
           "dY X^T, for connections that exist and for those that do not.");

  m.def("follow", &bind_follow, "target"_a, "online"_a, "tau"_a,
        nb::sig("def follow(target: " FLOATS ", online: " FLOATS ", tau: float) -> None"),
        "target += tau * (online - target), in place.");

  m.def("integers", &integers, "bit_generator"_a, "below"_a, "count"_a,
        nb::sig("def integers(bit_generator: object, below: int, count: int) -> " POSITIONS),
        "int64 [count] in [0, below): what NumPy's Generator over this bit generator would give.");

  m.def("standard_normal", &standard_normal, nb::keep_alive<0, 1>(), nb::keep_alive<0, 2>(),
        "bit_generator"_a, "to"_a,
        nb::sig("def standard_normal(bit_generator: object, to: " FLOATS ") -> Unfinished"),
        "Fill an array, float32 [n], with what NumPy's Generator over this bit generator would\n"
        "give next. It may go on when this returns.");

  m.def("squashed_normal", &bind_squashed_normal, "heads"_a, "noise"_a, "smooth"_a,
        nb::sig("def squashed_normal(heads: " FLOATS ", noise: " FLOATS
                ", smooth: bool) -> tuple[" FLOATS ", " FLOATS ", " FLOATS ", " FLOATS "]"),
        "Actions tanh(mean + std noise) [B, n], their log-densities [B, 1], std and its slope\n"
        "[B, n], for heads [B, 2 n]; float32. smooth: log std by tanh, else clamped.");

  m.def(
      "squashed_normal_gradient", &bind_squashed_normal_gradient, "action"_a, "std"_a, "noise"_a,
      "slope"_a, "d_action"_a, "d_log_density"_a,
      nb::sig("def squashed_normal_gradient(action: " FLOATS ", std: " FLOATS ", noise: " FLOATS
              ", slope: " FLOATS ", d_action: " FLOATS ", d_log_density: float) -> " FLOATS),
      "d L / d heads [B, 2 n] of what squashed_normal gave, all [B, n] but dL/dlog-density, which\n"
      "is one number; float32.");

  m.def("find_sorted", &bind_find_sorted, "ascending"_a, "needles"_a,
        nb::sig("def find_sorted(ascending: " POSITIONS ", needles: " POSITIONS
                ") -> tuple[" POSITIONS ", " FLAGS "]"),
        "For each needle the first entry of `ascending` that is not below it, int64 [n], and\n"
        "whether it is equal, bool [n]. Nearly linear where needles ascend too.");

  m.def("seconds_per_call", &bind_seconds<seconds_per_call>, "layer"_a, "kernel"_a, "batch"_a,
        "least"_a,
        "Mean seconds of one call of a kernel (forward, input gradient, weight gradient) on one\n"
        "thread, over at least so many seconds of calls.");
  m.def("seconds_of_loads", &bind_seconds<seconds_of_loads>, "layer"_a, "kernel"_a, "batch"_a,
        "least"_a, "The same for its loads of activations alone.");
  m.def("multiply_add_peak", &multiply_add_peak, "least"_a,
        nb::call_guard<nb::gil_scoped_release>(),
        "Multiply-adds per second of one core with the instruction set in use.");

  nb::class_<Follower>(m, "Follower",
                       "Target parameters that follow online ones of another layout.")
      .def("__init__", &new_follower, "pieces"_a,
           nb::sig("def __init__(self, pieces: collections.abc.Sequence[tuple[tuple[int, int], "
                   "tuple[int, int], " INDICES " | None, " INDICES " | None, int]]) -> None"),
           "pieces: (start, end) in the target, (start, end) in the online array, and for a layer\n"
           "over a union of patterns: for each entry its slot in the online piece (their number:\n"
           "none), for each entry its index in canonical order, and the budget.")
      .def("follow", &follower_follow, nb::keep_alive<0, 1>(), nb::keep_alive<0, 2>(),
           nb::keep_alive<0, 3>(), "target"_a, "online"_a, "tau"_a,
           nb::sig("def follow(self, target: " FLOATS ", online: " FLOATS
                   ", tau: float) -> Unfinished"),
           "target += tau * (online - target), in place; then only the budget largest magnitudes\n"
           "of a layer over a union stay non-zero. It may go on when this returns.");

  nb::class_<BoundWindows>(
      m, "Windows", "n-step windows over a replay ring, gathered beside what the caller does.")
      .def(
          "__init__", &new_windows, nb::keep_alive<1, 2>(), nb::keep_alive<1, 8>(),
          nb::keep_alive<1, 9>(), nb::keep_alive<1, 10>(), nb::keep_alive<1, 11>(),
          nb::keep_alive<1, 12>(), "rows"_a, "n_obs"_a, "n_act"_a, "first"_a, "size"_a, "known"_a,
          "states_of"_a, "states"_a, "ages"_a, "powers"_a, "to"_a,
          nb::sig("def __init__(self, rows: " BYTES ", n_obs: int, n_act: int, first: int, "
                  "size: int, known: int, states_of: " POSITIONS ", states: " FLOATS
                  ", ages: " POSITIONS ", powers: " FLOATS ", to: tuple[" FLOATS ", ...]) -> None"),
          "rows: uint8 [capacity, bytes of a row], see RingView; states_of: int64 [k], ascending,\n"
          "whose states, [k, n_obs], are kept apart. ages: int64 [B]; powers: [n + 1], of gamma.\n"
          "to: observation [B, n_obs], action [B, n_act], reward and discount [B, 1], state\n"
          "reached [B, n_obs], and where wanted states on the way [B, n, n_obs] and their\n"
          "discounts [B, n]. The first `known` transitions are there, the rest at finish.")
      .def_prop_ro(
          "complete", [](const BoundWindows& windows) { return windows.complete(); },
          "Whether no window reaches what is not there before finish.")
      .def(
          "wait", [](BoundWindows& windows) { windows.wait(); },
          nb::call_guard<nb::gil_scoped_release>(), "Return when the ring may change.")
      .def("finish", &finish_windows, "states_of"_a, "states"_a,
           nb::sig("def finish(self, states_of: " POSITIONS ", states: " FLOATS ") -> None"),
           "Do what is left, with all transitions in the ring.");
}

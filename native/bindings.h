// Helpers for the binding files. A binding checks shapes, dtypes and contiguity, converts no array,
// and releases the interpreter's lock while it computes. find_sorted and integers keep that lock,
// because they are short and another thread could write to the arrays of find_sorted. The
// lock of a random generator is not acquired, because no other thread uses the generator.
#pragma once
#include "thread_pool.h"
#include <algorithm>
#include <cstdint>
#include <memory>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace nb = nanobind;

namespace sparl {

// Each of these functions adds the functions and classes of one topic to the module.
void bind_network(nb::module_&);
void bind_algorithms(nb::module_&);
void bind_replay(nb::module_&);

using Array = nb::ndarray<nb::numpy, nb::device::cpu>;
using ReadOnlyArray = nb::ndarray<nb::numpy, nb::ro, nb::device::cpu>;
template <class T>
using NewArray = nb::ndarray<nb::numpy, T, nb::c_contig, nb::device::cpu>;
using FloatArray = NewArray<float>;
using IndexArray =
    nb::ndarray<nb::numpy, const uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

inline std::string shape_text(const std::vector<size_t>& shape) {
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

inline std::string dtype_text(nb::dlpack::dtype dtype) {
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
      return "of an unsupported dtype";
  }
}

template <class A>
void check_axes(const A& a, const char* name, size_t axes) {
  if (a.ndim() != axes)
    throw std::invalid_argument(std::string(name) + " must have " +
                                (axes == 1 ? "one axis" : "two axes") + " but has shape " +
                                shape_text(shape_of(a)));
}

// Throws an error that names the argument unless it has dtype T, C order and an aligned address.
template <class T, class A>
void check(const A& a, const char* name) {
  if (a.dtype() != nb::dtype<T>()) {
    const std::string is = dtype_text(a.dtype());
    const std::string wanted = std::is_same_v<T, float>      ? "float32"
                               : std::is_same_v<T, uint32_t> ? "uint32"
                               : std::is_same_v<T, uint8_t>  ? "uint8"
                                                             : "int64";
    throw nb::type_error((std::string(name) + " must be " + wanted + " but is " + is).c_str());
  }
  int64_t expected = a.size() ? 1 : 0; // the strides of an empty array are arbitrary
  for (size_t i = a.ndim(); expected && i-- > 0;) {
    if (a.shape(i) > 1 && a.stride(i) != expected)
      throw std::invalid_argument(std::string(name) + " must be contiguous in C order");
    expected *= int64_t(a.shape(i));
  }
  if (a.size() && reinterpret_cast<uintptr_t>(a.data()) % alignof(T) != 0)
    throw std::invalid_argument(std::string(name) + " must be aligned to " +
                                std::to_string(alignof(T)) + " bytes");
}

// The memory that an argument occupies.
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

// Throws std::invalid_argument if an array that a function writes shares memory with another
// argument of the function.
inline void check_disjoint(const char* function, const std::vector<Region>& written,
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
                                " but has " + shape_text(shape_of(a)));
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

// Returns the pool that the caller passed or, without one, a pool of the calling thread only.
using Pool = std::shared_ptr<ThreadPool>;
inline const Pool kCallerOnly = std::make_shared<ThreadPool>(1);
inline Pool pool_or_caller(Pool pool) { return pool ? std::move(pool) : kCallerOnly; }

// Pending work, with references to the objects and arrays that it uses until finish() has returned.
struct BoundPendingWork {
  std::vector<nb::object> objects;
  std::vector<nb::ndarray<>> arrays;
  PendingWork work; // the last member, so that it is destroyed before the objects that it uses

  void finish() {
    {
      nb::gil_scoped_release release;
      work.finish();
    }
    // Destructors can run Python code, which may call this function again.
    const auto unused_objects = std::move(objects);
    const auto unused_arrays = std::move(arrays);
  }
};

} // namespace sparl

#define FLOATS "numpy.typing.NDArray[numpy.float32]"
#define INDICES "numpy.typing.NDArray[numpy.uint32]"
#define FLAGS "numpy.typing.NDArray[numpy.bool_]"
#define BYTES "numpy.typing.NDArray[numpy.uint8]"
#define POSITIONS "numpy.typing.NDArray[numpy.int64]"
#define POOL ", pool: Pool | None = None"

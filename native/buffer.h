// An aligned, uninitialised array for activations, gradients and gathered parameters.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace sparl {

// An uninitialised array, aligned to 64 bytes.
class Buffer {
 public:
  explicit Buffer(size_t floats) : data_(allocate(floats)) {
    if (!data_) throw std::bad_alloc();
  }
  float* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  static float* allocate(size_t floats) { // aligned_alloc requires a size that is a multiple of 64
    const size_t lines = (std::max<size_t>(floats, 1) + 15) / 16;
    return static_cast<float*>(std::aligned_alloc(64, 64 * lines));
  }

  std::unique_ptr<float, Free> data_;
};

} // namespace sparl

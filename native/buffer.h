// Recycled memory for activations and gradients.
#pragma once
#include <cstddef>

namespace sparl {

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

} // namespace sparl

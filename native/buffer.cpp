#include "buffer.h"
#include <algorithm>
#include <cstdlib>
#include <new>
#include <vector>

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

} // namespace

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

} // namespace sparl

// The process-global table that owns every tensor JavaScript can name.
//
// A handle is one number: slot index plus the slot's generation, so that a stale handle is recognised instead of
// reaching another tensor. The table is shared by all threads: a worker may use a tensor made elsewhere by its number.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

namespace srum {

// index (26 bits), generation (25 bits), and one bit that says the tensor's storage is large, so that JavaScript can
// choose how to watch it without asking. Below 2^52, so exact in a JavaScript number. 0 is never a handle.
using Handle = uint64_t;
constexpr Handle kLargeBit = Handle{1} << 51;
constexpr size_t kLargeBytes = 16 * 1024;
constexpr size_t kLargeSharedBytes = 1024 * 1024;

class HandleTable {
 public:
  static HandleTable& instance();

  Handle insert(at::Tensor tensor);
  // Throws CallError ERR_DISPOSED when the handle does not name a live tensor.
  at::Tensor get(Handle handle);
  bool alive(Handle handle);
  // Remembers how many bytes the garbage collector was told of for this handle.
  void setReported(Handle handle, int64_t bytes);
  // Whether the handle was alive, and the bytes the collector has to be told are gone.
  struct Released {
    bool alive;
    int64_t reported;
  };
  Released release(Handle handle);
  void releaseAll(const std::vector<Handle>& handles);
  uint64_t live();

 private:
  struct Slot {
    at::Tensor tensor;
    int64_t reported = 0;
    uint32_t generation = 1;
    bool used = false;
  };
  Slot* find(Handle handle);

  std::mutex mutex_;
  std::deque<Slot> slots_;
  std::vector<uint32_t> free_;
  uint64_t live_ = 0;
};

}  // namespace srum

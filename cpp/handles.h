// The process-global table that owns every tensor JavaScript can name.
//
// A handle is one number: slot index plus the slot's generation, so that a stale handle is recognised instead of reaching
// another tensor. The table is shared by all threads: a worker may use a tensor made elsewhere by its number.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

namespace srum {

// index + generation * 2^26; always below 2^53, so exact in a JavaScript number. 0 is never a handle.
using Handle = uint64_t;

class HandleTable {
 public:
  static HandleTable& instance();

  Handle insert(at::Tensor tensor);
  // Throws CallError ERR_DISPOSED when the handle does not name a live tensor.
  at::Tensor get(Handle handle);
  bool alive(Handle handle);
  // Returns false when the handle was dead already.
  bool release(Handle handle);
  void releaseAll(const std::vector<Handle>& handles);
  uint64_t live();

 private:
  struct Slot {
    at::Tensor tensor;
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

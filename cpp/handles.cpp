#include "handles.h"

#include "errors.h"

namespace srum {
namespace {
constexpr uint64_t kIndexBits = 26;
constexpr uint64_t kIndexMask = (uint64_t{1} << kIndexBits) - 1;
constexpr uint32_t kGenerationMask = (uint32_t{1} << 25) - 1;

// A tensor that shares its storage is usually a short-lived view of one that is watched itself: only a big storage
// makes it large.
bool isLarge(const at::Tensor& tensor) {
  if (!tensor.has_storage()) return false;
  const c10::Storage& storage = tensor.storage();
  return storage.nbytes() >= (storage.use_count() > 1 ? kLargeSharedBytes : kLargeBytes);
}
}  // namespace

HandleTable& HandleTable::instance() {
  // Never destroyed: tensors may outlive static destruction order at process exit.
  static HandleTable* table = new HandleTable();
  return *table;
}

Handle HandleTable::insert(at::Tensor tensor) {
  const Handle size = isLarge(tensor) ? kLargeBit : 0;
  std::lock_guard<std::mutex> lock(mutex_);
  uint32_t index;
  if (free_.empty()) {
    if (slots_.size() > kIndexMask) throw CallError("ERR_OUT_OF_MEMORY", "too many live tensors");
    index = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  Slot& slot = slots_[index];
  slot.tensor = std::move(tensor);
  slot.used = true;
  ++live_;
  return index | (static_cast<uint64_t>(slot.generation) << kIndexBits) | size;
}

HandleTable::Slot* HandleTable::find(Handle handle) {
  const uint64_t index = handle & kIndexMask;
  if (index >= slots_.size()) return nullptr;
  Slot& slot = slots_[index];
  return slot.used && slot.generation == ((handle >> kIndexBits) & kGenerationMask) ? &slot : nullptr;
}

at::Tensor HandleTable::get(Handle handle) {
  std::lock_guard<std::mutex> lock(mutex_);
  Slot* slot = find(handle);
  if (slot == nullptr) throw CallError("ERR_DISPOSED", "the tensor was disposed, or its scope has ended");
  return slot->tensor;
}

bool HandleTable::alive(Handle handle) {
  std::lock_guard<std::mutex> lock(mutex_);
  return find(handle) != nullptr;
}

void HandleTable::setReported(Handle handle, int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  Slot* slot = find(handle);
  if (slot != nullptr) slot->reported = bytes;
}

HandleTable::Released HandleTable::release(Handle handle) {
  at::Tensor dying;  // declared before the lock, so destroyed after it: freeing can be slow and can call back
  std::lock_guard<std::mutex> lock(mutex_);
  Slot* slot = find(handle);
  if (slot == nullptr) return {false, 0};
  const int64_t reported = slot->reported;
  dying = std::move(slot->tensor);
  slot->tensor = at::Tensor();
  slot->reported = 0;
  slot->used = false;
  // A slot that has been through all generations is retired (its generation stays 0, which no handle has): were they
  // to begin again, an old handle could reach a new tensor.
  slot->generation = (slot->generation + 1) & kGenerationMask;
  if (slot->generation != 0) free_.push_back(static_cast<uint32_t>(handle & kIndexMask));
  --live_;
  return {true, reported};
}

void HandleTable::releaseAll(const std::vector<Handle>& handles) {
  for (const Handle handle : handles) release(handle);
}

uint64_t HandleTable::live() {
  std::lock_guard<std::mutex> lock(mutex_);
  return live_;
}

}  // namespace srum

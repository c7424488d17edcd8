#include "small-blocks.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <array>
#include <cstdlib>
#include <cstring>

namespace srum {

// The sanitizer must see every block come and go. On other processors LibTorch may have an allocator of its own, whose
// blocks cannot be asked for their size.
#if defined(__GLIBC__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
namespace {

// LibTorch's own alignment, here also the step from one size to the next.
constexpr size_t kStep = 64;
constexpr size_t kSizes = 32;
constexpr size_t kLargest = kStep * kSizes;
// At most so many blocks of a size wait in a thread: 8 MB in all sizes together.
constexpr uint32_t kMost = 256;

struct Block {
  Block* next;
};

// Blocks of one thread that are free, by size: list i has blocks of at least (i + 1) * kStep bytes.
struct FreeBlocks {
  struct List {
    Block* first = nullptr;
    uint32_t length = 0;
  };
  std::array<List, kSizes> lists;
  ~FreeBlocks();
};

thread_local FreeBlocks blocks;
// Tensors can die on a thread after its lists did. Has no destructor, so it outlives them.
thread_local bool closed = false;

FreeBlocks::~FreeBlocks() {
  closed = true;
  for (List& list : lists)
    while (list.first != nullptr) {
      Block* block = list.first;
      list.first = block->next;
      std::free(block);
    }
}

void release(void* memory) {
  if (memory == nullptr) return;
  const size_t size = malloc_usable_size(memory) / kStep;
  if (size == 0 || size > kSizes || closed) return std::free(memory);
  FreeBlocks::List& list = blocks.lists[size - 1];
  if (list.length == kMost) return std::free(memory);
  auto* block = static_cast<Block*>(memory);
  block->next = list.first;
  list.first = block;
  ++list.length;
}

class SmallBlocks final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0 || bytes > kLargest) return c10::GetDefaultCPUAllocator()->allocate(bytes);
    void* memory = take((bytes - 1) / kStep);
    return {memory, memory, release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return release; }
  void copy_data(void* target, const void* source, size_t count) const override {
    default_copy_data(target, source, count);
  }

 private:
  static void* take(size_t index) {
    if (!closed) {
      FreeBlocks::List& list = blocks.lists[index];
      if (list.first != nullptr) {
        Block* block = list.first;
        list.first = block->next;
        --list.length;
        return block;
      }
    }
    return c10::alloc_cpu((index + 1) * kStep);
  }
};

}  // namespace

void keepSmallBlocks() {
  static auto* allocator = new SmallBlocks();
  // Takes the default's place, and leaves it to anybody who asks for more.
  c10::SetCPUAllocator(allocator, 1);
}
#else
void keepSmallBlocks() {}
#endif

}  // namespace srum

// Memory of small tensors, kept for the next one.
#pragma once

namespace srum {

// Makes LibTorch take the memory of small CPU tensors from lists of blocks given back before, one list per size and
// thread. A scope frees its tensors together, more of them than the C library keeps at hand, and aligned blocks it does
// not keep at all.
void keepSmallBlocks();

}  // namespace srum

// All kernels for one instruction set; see lanes.inc.h for what may stand here.
#include "lanes.inc.h"
#include "rows.inc.h"
#include "short_attention.inc.h"

static Kernels kernels(const char* name) {
  return {name,
          attentionKernels<float>(),
          attentionKernels<Bf16>(),
          rowKernels<float, float>(),
          rowKernels<Bf16, Bf16>(),
          rowKernels<float, Bf16>(),
          gateKernels<float>(),
          gateKernels<Bf16>()};
}

#undef SRUM_INLINE
#undef SRUM_UNROLL
#undef SRUM_SHUFFLE4

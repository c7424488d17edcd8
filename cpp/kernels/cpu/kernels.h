// Own CPU kernels: plain functions over memory, compiled once per instruction set (kernels.cpp) and chosen when first
// used. Nothing here knows tensors; operators.cpp and short_attention.cpp do.
#pragma once
#include <cstdint>

namespace srum::cpu {

// bfloat16 as its bits.
struct Bf16 {
  uint16_t bits;
};

// Key rows [begin, end) seen by every query row of a group, or, when causal, by row i up to begin + i.
struct KeyRange {
  int64_t begin, end;
  bool causal;
};

// Query rows [qBegin, qEnd) and everything they see, which is one softmax. Causal ranges are square and come last.
struct AttentionGroup {
  int64_t qBegin, qEnd;
  const KeyRange* ranges;
  int64_t rangeCount;
  int64_t keys;       // rows in all ranges
  int64_t triangles;  // causal ranges among them
};

// Memory of an attention: q and out [.., heads, dim], k and v [.., kvHeads, dim], all contiguous.
template <typename T>
struct AttentionArrays {
  const T *q, *k, *v;
  int64_t heads, kvHeads, dim;
  int64_t queryRows;
  float scale;
  T* out;
  float* lse;  // [heads, queryRows]
  // For the backward pass:
  const T* outGradient;
  float *dq, *dk, *dv;  // dk and dv are added to
};

template <typename T>
struct AttentionKernels {
  // Floats of scratch memory that a group needs.
  int64_t (*scratch)(const AttentionArrays<T>&, const AttentionGroup&, bool backward);
  void (*forward)(const AttentionArrays<T>&, const AttentionGroup&, int64_t kvHead, float* scratch);
  void (*backward)(const AttentionArrays<T>&, const AttentionGroup&, int64_t kvHead, float* scratch);
};

template <typename A, typename B>
struct Promoted {
  using Type = float;
};
template <>
struct Promoted<Bf16, Bf16> {
  using Type = Bf16;
};

// X: type of the activations, W: of the weight or table; results have the promoted type.
template <typename X, typename W>
struct RowKernels {
  using Y = typename Promoted<X, W>::Type;
  // y = round(x * r) * weight with r = 1 / sqrt(mean(x^2) + eps), which is kept per row
  void (*rmsNorm)(const X* x, const W* weight, Y* y, float* r, int64_t rows, int64_t width, float eps);
  // dWeight [width] is added to
  void (*rmsNormBackward)(const X* x, const W* weight, const float* r, const Y* dy, X* dx, float* dWeight, int64_t rows,
                          int64_t width);
  // x [rows, heads, dim], cos and sin [rows, dim]; the sines carry the sign of the swap of halves
  void (*rope)(const X* x, const W* cos, const W* sin, Y* y, int64_t rows, int64_t heads, int64_t dim);
  void (*ropeBackward)(const Y* dy, const W* cos, const W* sin, X* dx, int64_t rows, int64_t heads, int64_t dim);
};

template <typename T>
struct GateKernels {
  // y = round(gate / (1 + exp(-gate))) * up
  void (*swiglu)(const T* gate, const T* up, T* y, int64_t count);
  void (*swigluBackward)(const T* gate, const T* up, const T* dy, T* dGate, T* dUp, int64_t count);
};

struct Kernels {
  const char* name;
  AttentionKernels<float> attention32;
  AttentionKernels<Bf16> attention16;
  RowKernels<float, float> rows32;
  RowKernels<Bf16, Bf16> rows16;
  RowKernels<float, Bf16> rowsMixed;
  GateKernels<float> gate32;
  GateKernels<Bf16> gate16;
};

// The build for the widest instruction set among generic, avx2 and avx512 that this processor has. `limit` is ATen's
// name of the widest one wanted: DEFAULT, AVX2 or anything else.
const Kernels& kernelsFor(const char* limit);

}  // namespace srum::cpu

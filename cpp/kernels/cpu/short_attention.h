// Attention over many short key ranges in one call: groups and key heads run in parallel, each from start to end.
#pragma once
#include <ATen/core/Tensor.h>

#include <utility>

#include "attention_plan.h"

namespace srum {

// Whether there is a kernel for these tensors at all.
bool shortAttentionTakes(const at::Tensor& q);

// Whether it is faster for the plan than LibTorch's flash attention call by call.
bool shortAttentionPays(const AttentionPlan& plan);

// -> out [Tq, H, d] in q's dtype, log-sum-exp [H, Tq] float32
std::pair<at::Tensor, at::Tensor> shortAttention(const AttentionPlan& plan, const at::Tensor& q, const at::Tensor& k,
                                                 const at::Tensor& v, double scale);

struct AttentionGradients {
  at::Tensor q, k, v;
};

// The same bits whatever the number of threads.
AttentionGradients shortAttentionBackward(const AttentionPlan& plan, const at::Tensor& gradient, const at::Tensor& q,
                                          const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                                          const at::Tensor& lse, double scale);

}  // namespace srum

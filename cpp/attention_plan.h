// A plan of packed attention, checked and grouped: every group is one softmax.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/custom_class.h>

#include <vector>

#include "kernels/cpu/kernels.h"

namespace srum {

struct AttentionPlan : torch::CustomClassHolder {
  // Calls over the same query rows become one group; a causal call becomes a rectangle and a square.
  // Throws CallError ERR_ARGUMENT for ranges outside the rows and for overlapping query ranges.
  AttentionPlan(at::IntArrayRef qStarts, at::IntArrayRef qEnds, at::IntArrayRef kStarts, at::IntArrayRef kEnds,
                const c10::List<bool>& causal, int64_t qRows, int64_t kRows);
  AttentionPlan(const AttentionPlan&) = delete;
  AttentionPlan& operator=(const AttentionPlan&) = delete;

  std::vector<cpu::AttentionGroup> groups;
  // Query rows that some group covers; the others get zeros.
  int64_t coveredRows = 0;
  // Scores of one head: the sum over groups of query rows times keys.
  int64_t scores = 0;

 private:
  std::vector<cpu::KeyRange> ranges_;
};

}  // namespace srum

#include "short_attention.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/alloc_cpu.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "select.h"

namespace srum {
namespace {

using at::Tensor;
using cpu::AttentionArrays;
using cpu::AttentionGroup;
using cpu::Bf16;
using cpu::Memory;

template <typename T>
const cpu::AttentionKernels<T>& attentionKernels();
template <>
const cpu::AttentionKernels<float>& attentionKernels<float>() {
  return cpu::selected().attention32;
}
template <>
const cpu::AttentionKernels<Bf16>& attentionKernels<Bf16>() {
  return cpu::selected().attention16;
}

// Scratch memory of one thread.
class Scratch {
 public:
  explicit Scratch(int64_t floats) : memory_(c10::alloc_cpu(floats * sizeof(float))) {}
  ~Scratch() { c10::free_cpu(memory_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* data() { return static_cast<float*>(memory_); }

 private:
  void* memory_;
};

template <typename T>
int64_t scratchFloats(const AttentionPlan& plan, const AttentionArrays<T>& arrays, bool backward) {
  int64_t most = 1;
  for (const AttentionGroup& group : plan.groups)
    most = std::max(most, attentionKernels<T>().scratch(arrays, group, backward));
  return most;
}

// Tasks that a thread takes at a time, so that a small plan does not wake other threads.
int64_t grain(const AttentionPlan& plan, int64_t tasks, int64_t heads, int64_t dim) {
  constexpr int64_t kWork = int64_t{1} << 19;
  return std::max<int64_t>(1, kWork * tasks / std::max<int64_t>(1, plan.scores * heads * dim));
}

template <typename T>
AttentionArrays<T> arraysOf(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
  AttentionArrays<T> arrays{};
  arrays.q = Memory<T>::read(q);
  arrays.k = Memory<T>::read(k);
  arrays.v = Memory<T>::read(v);
  arrays.heads = q.size(1);
  arrays.kvHeads = k.size(1);
  arrays.dim = q.size(2);
  arrays.queryRows = q.size(0);
  arrays.scale = static_cast<float>(scale);
  return arrays;
}

template <typename T>
void forward(const AttentionPlan& plan, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
             const Tensor& lse, double scale) {
  AttentionArrays<T> arrays = arraysOf<T>(q, k, v, scale);
  arrays.out = Memory<T>::write(out);
  arrays.lse = Memory<float>::write(lse);
  const int64_t scratch = scratchFloats(plan, arrays, false);
  const int64_t tasks = static_cast<int64_t>(plan.groups.size()) * arrays.kvHeads;
  at::parallel_for(0, tasks, grain(plan, tasks, arrays.heads, arrays.dim), [&](int64_t begin, int64_t end) {
    Scratch own(scratch);
    for (int64_t task = begin; task < end; ++task)
      attentionKernels<T>().forward(arrays, plan.groups[task / arrays.kvHeads], task % arrays.kvHeads, own.data());
  });
}

// Groups that share no key row with one another can run at the same time; those that do run in their order, which
// also keeps the order of additions. Returns the groups sorted by set, and where each set begins.
struct IndependentSets {
  std::vector<size_t> groups;
  std::vector<size_t> begins;
};

IndependentSets independentSets(const AttentionPlan& plan) {
  const size_t count = plan.groups.size();
  std::vector<size_t> parent(count);
  for (size_t i = 0; i < count; ++i) parent[i] = i;
  const auto root = [&](size_t i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  };
  struct Span {
    int64_t begin, end;
    size_t group;
  };
  std::vector<Span> spans;
  for (size_t i = 0; i < count; ++i) {
    const AttentionGroup& group = plan.groups[i];
    for (int64_t r = 0; r < group.rangeCount; ++r) spans.push_back({group.ranges[r].begin, group.ranges[r].end, i});
  }
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
  int64_t reach = 0;
  for (size_t i = 0; i < spans.size(); ++i) {
    if (i > 0 && spans[i].begin < reach) {
      const size_t a = root(spans[i - 1].group), b = root(spans[i].group);
      parent[std::max(a, b)] = std::min(a, b);
    }
    reach = i == 0 ? spans[i].end : std::max(reach, spans[i].end);
  }
  IndependentSets sets;
  sets.groups.resize(count);
  std::vector<size_t> roots(count);
  for (size_t i = 0; i < count; ++i) {
    sets.groups[i] = i;
    roots[i] = root(i);
  }
  std::stable_sort(sets.groups.begin(), sets.groups.end(), [&](size_t a, size_t b) { return roots[a] < roots[b]; });
  for (size_t i = 0; i < count; ++i) {
    if (i == 0 || roots[sets.groups[i]] != roots[sets.groups[i - 1]]) sets.begins.push_back(i);
  }
  return sets;
}

template <typename T>
void backward(const AttentionPlan& plan, const Tensor& gradient, const Tensor& q, const Tensor& k, const Tensor& v,
              const Tensor& out, const Tensor& lse, double scale, const AttentionGradients& sums) {
  AttentionArrays<T> arrays = arraysOf<T>(q, k, v, scale);
  // The backward kernel only reads these two.
  arrays.out = const_cast<T*>(Memory<T>::read(out));
  arrays.lse = const_cast<float*>(Memory<float>::read(lse));
  arrays.outGradient = Memory<T>::read(gradient);
  arrays.dq = Memory<float>::write(sums.q);
  arrays.dk = Memory<float>::write(sums.k);
  arrays.dv = Memory<float>::write(sums.v);
  const int64_t scratch = scratchFloats(plan, arrays, true);
  const IndependentSets sets = independentSets(plan);
  const int64_t tasks = static_cast<int64_t>(sets.begins.size()) * arrays.kvHeads;
  at::parallel_for(0, tasks, grain(plan, tasks, arrays.heads, arrays.dim), [&](int64_t begin, int64_t end) {
    Scratch own(scratch);
    for (int64_t task = begin; task < end; ++task) {
      const size_t set = static_cast<size_t>(task / arrays.kvHeads);
      const size_t last = set + 1 < sets.begins.size() ? sets.begins[set + 1] : sets.groups.size();
      for (size_t i = sets.begins[set]; i < last; ++i)
        attentionKernels<T>().backward(arrays, plan.groups[sets.groups[i]], task % arrays.kvHeads, own.data());
    }
  });
}

// float16 is computed in float32: its conversions need instructions of their own.
Tensor readable(const Tensor& t) { return (t.scalar_type() == at::kHalf ? t.to(at::kFloat) : t).contiguous(); }

Tensor emptyOrZeros(const AttentionPlan& plan, const Tensor& like, at::ScalarType dtype) {
  const auto options = like.options().dtype(dtype);
  return plan.coveredRows == like.size(0) ? at::empty(like.sizes(), options) : at::zeros(like.sizes(), options);
}

}  // namespace

bool shortAttentionTakes(const Tensor& q) {
  const at::ScalarType type = q.scalar_type();
  return q.device().is_cpu() && q.size(2) > 0 && (type == at::kFloat || type == at::kBFloat16 || type == at::kHalf);
}

bool shortAttentionPays(const AttentionPlan& plan) {
  // Measured (docs/results/performance.md): beyond some 512 keys a row the two are equal, or flash is ahead by a tenth;
  // single rows, as in decoding, are faster at any length.
  constexpr int64_t kKeys = 512;
  return plan.scores <= kKeys * plan.coveredRows || static_cast<int64_t>(plan.groups.size()) == plan.coveredRows;
}

std::pair<Tensor, Tensor> shortAttention(const AttentionPlan& plan, const Tensor& q, const Tensor& k, const Tensor& v,
                                         double scale) {
  const Tensor query = readable(q), key = readable(k), value = readable(v);
  const Tensor out = emptyOrZeros(plan, query, query.scalar_type());
  const Tensor lse = at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat));
  if (query.scalar_type() == at::kBFloat16)
    forward<Bf16>(plan, query, key, value, out, lse, scale);
  else
    forward<float>(plan, query, key, value, out, lse, scale);
  return {out.to(q.scalar_type()), lse};
}

AttentionGradients shortAttentionBackward(const AttentionPlan& plan, const Tensor& gradient, const Tensor& q,
                                          const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& lse,
                                          double scale) {
  const Tensor query = readable(q), key = readable(k), value = readable(v), result = readable(out),
               given = readable(gradient);
  const auto zeros = [](const Tensor& t) { return at::zeros(t.sizes(), t.options().dtype(at::kFloat)); };
  const AttentionGradients sums{emptyOrZeros(plan, query, at::kFloat), zeros(k), zeros(v)};
  if (query.scalar_type() == at::kBFloat16)
    backward<Bf16>(plan, given, query, key, value, result, lse, scale, sums);
  else
    backward<float>(plan, given, query, key, value, result, lse, scale, sums);
  const auto type = q.scalar_type();
  return {sums.q.to(type), sums.k.to(type), sums.v.to(type)};
}

}  // namespace srum

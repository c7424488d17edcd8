// srum::packed_attention: exact attention over ranges of a packed batch, without any mask.
//
// A plan is a list of calls. Call i lets query rows [q_starts[i], q_ends[i]) see key rows [k_starts[i], k_ends[i]), all
// of them or, when causal[i], aligned bottom-right: row j of nq sees keys up to nk - nq + j. Calls with the same query
// range follow one another and together form one softmax. Query rows without a call (padding) get zeros. Grouped-query
// attention never expands keys and values.
//
// kernel: 'short' (CPU, 16 and 32 bits) takes the whole plan in one pass; 'flash' (CPU) is LibTorch's, call by call,
// with results merged by log-sum-exp; 'math' runs anywhere, the same way; 'auto' chooses by device and key ranges.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <limits>
#include <vector>

#include "attention_plan.h"
#include "errors.h"
#include "kernels/cpu/short_attention.h"

namespace srum {
namespace {

using at::Tensor;
using cpu::AttentionGroup;
using cpu::KeyRange;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// [T, H, d] rows -> [1, H, n, d]
Tensor rows(const Tensor& t, int64_t begin, int64_t end) {
  return t.narrow(0, begin, end - begin).transpose(0, 1).unsqueeze(0);
}

enum class Kernel { Flash, Math, Short };

Kernel chooseKernel(const Tensor& q, const AttentionPlan& plan, c10::string_view name) {
  if (name == "math") return Kernel::Math;
  if (name == "auto") {
    if (!q.device().is_cpu()) return Kernel::Math;
    return shortAttentionTakes(q) && shortAttentionPays(plan) ? Kernel::Short : Kernel::Flash;
  }
  if (name != "flash" && name != "short") throw CallError("ERR_ARGUMENT", "unknown kernel '" + std::string(name) + "'");
  if (!q.device().is_cpu()) throw CallError("ERR_DEVICE", "kernel '" + std::string(name) + "' runs on the CPU only");
  if (name == "flash") return Kernel::Flash;
  if (!shortAttentionTakes(q)) throw CallError("ERR_DTYPE", "kernel 'short' takes float32, bfloat16 and float16");
  return Kernel::Short;
}

// Score rows are made a block at a time, so that memory grows with the keys, not with queries times keys.
int64_t blockRows(int64_t heads, int64_t keys) {
  constexpr int64_t kScores = int64_t{1} << 24;
  return std::max<int64_t>(1, kScores / std::max<int64_t>(1, heads * keys));
}

// Scores [1, H, rows, nk] in the accumulation type of query rows [begin, begin + rows) of the part.
Tensor scoresOf(const Tensor& q, const Tensor& k, bool causal, int64_t begin, double scale) {
  const int64_t kv = k.size(1), group = q.size(1) / kv, n = q.size(2), keys = k.size(2);
  Tensor scores = at::matmul(q.reshape({kv, group * n, q.size(3)}), k.squeeze(0).transpose(-2, -1)).mul_(scale);
  scores = scores.view({1, kv * group, n, keys});
  if (causal) {
    const auto options = at::TensorOptions().device(q.device()).dtype(at::kLong);
    const Tensor hidden = at::arange(keys, options).unsqueeze(0).gt(at::arange(begin, begin + n, options).unsqueeze(1));
    scores.masked_fill_(hidden, -std::numeric_limits<double>::infinity());
  }
  return scores;
}

at::ScalarType accumulationType(const Tensor& t) { return t.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

// -> out [1, H, nq, d] in q's dtype, log-sum-exp [1, H, nq] in the accumulation type
std::pair<Tensor, Tensor> partForward(Kernel kernel, const Tensor& q, const Tensor& k, const Tensor& v, bool causal,
                                      double scale) {
  if (kernel == Kernel::Flash) {
    auto [out, lse] = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, std::nullopt, scale);
    return {out, lse};
  }
  const at::ScalarType acc = accumulationType(q);
  const Tensor key = k.to(acc), value = v.to(acc);
  const int64_t kv = k.size(1), group = q.size(1) / kv, step = blockRows(q.size(1), k.size(2));
  std::vector<Tensor> outs, lses;
  for (int64_t begin = 0; begin < q.size(2); begin += step) {
    const Tensor block = q.narrow(2, begin, std::min(step, q.size(2) - begin)).to(acc);
    const int64_t n = block.size(2);
    Tensor scores = scoresOf(block, key, causal, begin, scale);
    const Tensor lse = at::logsumexp(scores, {-1});
    const Tensor weights = scores.sub_(lse.unsqueeze(-1)).exp_();
    outs.push_back(at::matmul(weights.view({kv, group * n, -1}), value.squeeze(0))
                       .view({1, q.size(1), n, -1})
                       .to(q.scalar_type()));
    lses.push_back(lse);
  }
  return {at::cat(outs, 2), at::cat(lses, 2)};
}

AttentionGradients partBackward(Kernel kernel, const Tensor& gradient, const Tensor& q, const Tensor& k,
                                const Tensor& v, const Tensor& out, const Tensor& lse, bool causal, double scale) {
  if (kernel == Kernel::Flash) {
    auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(gradient, q, k, v, out, lse, 0.0,
                                                                                 causal, std::nullopt, scale);
    return {dq, dk, dv};
  }
  const at::ScalarType acc = accumulationType(q);
  const Tensor key = k.to(acc), value = v.to(acc);
  const int64_t heads = q.size(1), kv = k.size(1), group = heads / kv, step = blockRows(heads, k.size(2));
  Tensor dk = at::zeros_like(key.squeeze(0), at::MemoryFormat::Contiguous), dv = at::zeros_like(dk);
  std::vector<Tensor> dqs;
  for (int64_t begin = 0; begin < q.size(2); begin += step) {
    const int64_t n = std::min(step, q.size(2) - begin);
    const auto block = [&](const Tensor& t) { return t.narrow(2, begin, n).to(acc).reshape({kv, group * n, -1}); };
    const Tensor query = q.narrow(2, begin, n).to(acc);
    const Tensor weights = scoresOf(query, key, causal, begin, scale)
                               .sub_(lse.narrow(2, begin, n).unsqueeze(-1))
                               .exp_()
                               .view({kv, group * n, -1});
    const Tensor dout = block(gradient);
    dv.add_(at::matmul(weights.transpose(-2, -1), dout));
    const Tensor delta = (dout * block(out)).sum(-1, true);
    const Tensor dscores = at::matmul(dout, value.squeeze(0).transpose(-2, -1)).sub_(delta).mul_(weights).mul_(scale);
    dqs.push_back(at::matmul(dscores, key.squeeze(0)).view({1, heads, n, -1}).to(q.scalar_type()));
    dk.add_(at::matmul(dscores.transpose(-2, -1), block(q)));
  }
  return {at::cat(dqs, 2), dk.unsqueeze(0).to(k.scalar_type()), dv.unsqueeze(0).to(v.scalar_type())};
}

void checkInputs(const Tensor& q, const Tensor& k, const Tensor& v) {
  if (q.dim() != 3 || k.dim() != 3 || v.dim() != 3)
    throw CallError("ERR_SHAPE", "q, k and v have shape [rows, heads, head_dim]");
  if (k.size(0) != v.size(0) || k.size(1) != v.size(1)) throw CallError("ERR_SHAPE", "k and v differ in rows or heads");
  if (q.size(2) != k.size(2) || k.size(2) != v.size(2)) throw CallError("ERR_SHAPE", "q, k and v differ in head_dim");
  if (k.size(1) == 0 || q.size(1) % k.size(1) != 0)
    throw CallError("ERR_SHAPE", "the number of query heads is no multiple of the key heads");
  if (q.scalar_type() != k.scalar_type() || k.scalar_type() != v.scalar_type())
    throw CallError("ERR_DTYPE", "q, k and v differ in dtype");
  if (!q.is_floating_point()) throw CallError("ERR_DTYPE", "q, k and v must be floating point");
  if (q.device() != k.device() || k.device() != v.device())
    throw CallError("ERR_DEVICE", "q, k and v lie on different devices");
}

// -> out [Tq, H, d], log-sum-exp [H, Tq]
std::pair<Tensor, Tensor> forwardAll(Kernel kernel, const AttentionPlan& plan, const Tensor& q, const Tensor& k,
                                     const Tensor& v, double scale) {
  if (kernel == Kernel::Short) return shortAttention(plan, q, k, v, scale);
  Tensor out = at::zeros(q.sizes(), q.options());
  Tensor lse = at::full({q.size(1), q.size(0)}, -std::numeric_limits<double>::infinity(),
                        q.options().dtype(accumulationType(q)));
  for (const AttentionGroup& group : plan.groups) {
    const Tensor query = rows(q, group.qBegin, group.qEnd);
    Tensor merged, mergedLse;
    for (int64_t i = 0; i < group.rangeCount; ++i) {
      const KeyRange& range = group.ranges[i];
      auto [partOut, partLse] = partForward(kernel, query, rows(k, range.begin, range.end),
                                            rows(v, range.begin, range.end), range.causal, scale);
      if (!merged.defined()) {
        merged = partOut;
        mergedLse = partLse;
        continue;
      }
      const Tensor total = at::logaddexp(mergedLse, partLse);
      merged = merged.to(total.scalar_type()) * (mergedLse - total).exp().unsqueeze(-1) +
               partOut.to(total.scalar_type()) * (partLse - total).exp().unsqueeze(-1);
      mergedLse = total;
    }
    const int64_t length = group.qEnd - group.qBegin;
    out.narrow(0, group.qBegin, length).copy_(merged.squeeze(0).transpose(0, 1));
    lse.narrow(1, group.qBegin, length).copy_(mergedLse.squeeze(0));
  }
  return {out, lse};
}

AttentionGradients backwardAll(Kernel kernel, const AttentionPlan& plan, const Tensor& gradient, const Tensor& q,
                               const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& lse, double scale) {
  if (kernel == Kernel::Short) return shortAttentionBackward(plan, gradient, q, k, v, out, lse, scale);
  // Several parts add into one row: in 16 bits each addition would round.
  const auto sum = [&](const Tensor& t) { return at::zeros(t.sizes(), t.options().dtype(accumulationType(t))); };
  Tensor dq = sum(q), dk = sum(k), dv = sum(v);
  for (const AttentionGroup& group : plan.groups) {
    // The merged output and log-sum-exp make every part's weights those of the one softmax over all parts.
    const Tensor partGradient = rows(gradient, group.qBegin, group.qEnd), partOut = rows(out, group.qBegin, group.qEnd),
                 query = rows(q, group.qBegin, group.qEnd);
    const Tensor partLse = lse.narrow(1, group.qBegin, group.qEnd - group.qBegin).unsqueeze(0);
    for (int64_t i = 0; i < group.rangeCount; ++i) {
      const KeyRange& range = group.ranges[i];
      const AttentionGradients grads =
          partBackward(kernel, partGradient, query, rows(k, range.begin, range.end), rows(v, range.begin, range.end),
                       partOut, partLse, range.causal, scale);
      rows(dq, group.qBegin, group.qEnd).add_(grads.q);
      rows(dk, range.begin, range.end).add_(grads.k);
      rows(dv, range.begin, range.end).add_(grads.v);
    }
  }
  return {dq.to(q.scalar_type()), dk.to(k.scalar_type()), dv.to(v.scalar_type())};
}

using PlanPointer = c10::intrusive_ptr<AttentionPlan>;

struct PackedAttention : torch::autograd::Function<PackedAttention> {
  static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                        const PlanPointer& plan, double scale, Kernel kernel) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [out, lse] = forwardAll(kernel, *plan, q, k, v, scale);
    ctx->save_for_backward({q, k, v, out, lse});
    ctx->saved_data["plan"] = c10::IValue::make_capsule(plan);
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["kernel"] = static_cast<int64_t>(kernel);
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const variable_list saved = ctx->get_saved_variables();
    const auto capsule = ctx->saved_data["plan"].toCapsule();
    const auto& plan = static_cast<const AttentionPlan&>(*capsule);
    const auto kernel = static_cast<Kernel>(ctx->saved_data["kernel"].toInt());
    const AttentionGradients grads = backwardAll(kernel, plan, gradients[0], saved[0], saved[1], saved[2], saved[3],
                                                 saved[4], ctx->saved_data["scale"].toDouble());
    return {grads.q, grads.k, grads.v, {}, {}, {}};
  }
};

Tensor packedAttention(const Tensor& q, const Tensor& k, const Tensor& v, at::IntArrayRef qStarts,
                       at::IntArrayRef qEnds, at::IntArrayRef kStarts, at::IntArrayRef kEnds,
                       const c10::List<bool>& causal, double scale, c10::string_view kernel) {
  checkInputs(q, k, v);
  const AttentionPlan plan(qStarts, qEnds, kStarts, kEnds, causal, q.size(0), k.size(0));
  return forwardAll(chooseKernel(q, plan, kernel), plan, q, k, v, scale).first;
}

Tensor packedAttentionAutograd(const Tensor& q, const Tensor& k, const Tensor& v, at::IntArrayRef qStarts,
                               at::IntArrayRef qEnds, at::IntArrayRef kStarts, at::IntArrayRef kEnds,
                               const c10::List<bool>& causal, double scale, c10::string_view kernel) {
  checkInputs(q, k, v);
  const auto plan = c10::make_intrusive<AttentionPlan>(qStarts, qEnds, kStarts, kEnds, causal, q.size(0), k.size(0));
  return PackedAttention::apply(q, k, v, plan, scale, chooseKernel(q, *plan, kernel));
}

}  // namespace

TORCH_LIBRARY(srum, m) {
  m.def(
      "packed_attention(Tensor q, Tensor k, Tensor v, int[] q_starts, int[] q_ends, int[] k_starts, int[] k_ends, "
      "bool[] causal, "
      "float scale, str kernel='auto') -> Tensor");
}
TORCH_LIBRARY_IMPL(srum, CompositeExplicitAutograd, m) { m.impl("packed_attention", packedAttention); }
TORCH_LIBRARY_IMPL(srum, Autograd, m) { m.impl("packed_attention", packedAttentionAutograd); }

}  // namespace srum

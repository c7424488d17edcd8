// srum::packed_attention: exact attention over ranges of a packed batch, without any mask.
//
// A plan is a list of calls. Call i lets query rows [q_starts[i], q_ends[i]) see key rows [k_starts[i], k_ends[i]), all
// of them or, when causal[i], aligned bottom-right: row j of nq sees keys up to nk - nq + j. Calls with the same query
// range follow one another and together form one softmax: their results are merged by log-sum-exp. Query rows without a
// call (padding) get zeros. Grouped-query attention never expands keys and values.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <limits>
#include <vector>

#include "errors.h"

namespace srum {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// One rectangle or one square causal triangle of the attention matrix.
struct Part {
  int64_t qBegin, qEnd, kBegin, kEnd;
  bool causal;
};

// Parts that share their query rows.
struct Group {
  int64_t qBegin, qEnd;
  std::vector<Part> parts;
};

[[noreturn]] void badPlan(const std::string& message) { throw CallError("ERR_ARGUMENT", "plan: " + message); }

std::vector<Group> groupsOf(at::IntArrayRef qStarts, at::IntArrayRef qEnds, at::IntArrayRef kStarts,
                            at::IntArrayRef kEnds, const std::vector<bool>& causal, int64_t qRows, int64_t kRows) {
  const size_t count = qStarts.size();
  if (qEnds.size() != count || kStarts.size() != count || kEnds.size() != count || causal.size() != count)
    badPlan("the lists differ in length");
  std::vector<Group> groups;
  std::vector<bool> covered(static_cast<size_t>(qRows), false);
  for (size_t i = 0; i < count; ++i) {
    const int64_t nq = qEnds[i] - qStarts[i], nk = kEnds[i] - kStarts[i];
    if (qStarts[i] < 0 || nq < 0 || qEnds[i] > qRows)
      badPlan("query range outside the " + std::to_string(qRows) + " rows");
    if (kStarts[i] < 0 || nk < 0 || kEnds[i] > kRows)
      badPlan("key range outside the " + std::to_string(kRows) + " rows");
    if (nq == 0 || nk == 0) continue;
    if (causal[i] && nk < nq) badPlan("a causal call needs at least as many keys as queries");
    if (groups.empty() || groups.back().qBegin != qStarts[i] || groups.back().qEnd != qEnds[i]) {
      for (int64_t row = qStarts[i]; row < qEnds[i]; ++row) {
        if (covered[row]) badPlan("query ranges overlap without being equal and adjacent");
        covered[row] = true;
      }
      groups.push_back({qStarts[i], qEnds[i], {}});
    }
    std::vector<Part>& parts = groups.back().parts;
    if (!causal[i]) {
      parts.push_back({qStarts[i], qEnds[i], kStarts[i], kEnds[i], false});
      continue;
    }
    if (nk > nq) parts.push_back({qStarts[i], qEnds[i], kStarts[i], kEnds[i] - nq, false});
    parts.push_back({qStarts[i], qEnds[i], kEnds[i] - nq, kEnds[i], true});
  }
  return groups;
}

// [T, H, d] rows -> [1, H, n, d]
Tensor rows(const Tensor& t, int64_t begin, int64_t end) {
  return t.narrow(0, begin, end - begin).transpose(0, 1).unsqueeze(0);
}

enum class Kernel { Flash, Math };

Kernel chooseKernel(const Tensor& q, c10::string_view name) {
  if (name == "math") return Kernel::Math;
  if (name == "flash" || name == "auto") {
    if (q.device().is_cpu()) return Kernel::Flash;
    if (name == "auto") return Kernel::Math;
    throw CallError("ERR_DEVICE", "kernel 'flash' runs on the CPU only");
  }
  throw CallError("ERR_ARGUMENT", "unknown kernel '" + std::string(name) + "'");
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

struct PartGradients {
  Tensor q, k, v;
};

PartGradients partBackward(Kernel kernel, const Tensor& gradient, const Tensor& q, const Tensor& k, const Tensor& v,
                           const Tensor& out, const Tensor& lse, bool causal, double scale) {
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
std::pair<Tensor, Tensor> forwardAll(Kernel kernel, const std::vector<Group>& groups, const Tensor& q, const Tensor& k,
                                     const Tensor& v, double scale) {
  Tensor out = at::zeros(q.sizes(), q.options());
  Tensor lse = at::full({q.size(1), q.size(0)}, -std::numeric_limits<double>::infinity(),
                        q.options().dtype(accumulationType(q)));
  for (const Group& group : groups) {
    Tensor merged, mergedLse;
    for (const Part& part : group.parts) {
      auto [partOut, partLse] = partForward(kernel, rows(q, part.qBegin, part.qEnd), rows(k, part.kBegin, part.kEnd),
                                            rows(v, part.kBegin, part.kEnd), part.causal, scale);
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

struct PackedAttention : torch::autograd::Function<PackedAttention> {
  static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                        const std::vector<int64_t>& qStarts, const std::vector<int64_t>& qEnds,
                        const std::vector<int64_t>& kStarts, const std::vector<int64_t>& kEnds,
                        const std::vector<bool>& causal, double scale, const std::string& kernelName) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Kernel kernel = chooseKernel(q, kernelName);
    auto [out, lse] =
        forwardAll(kernel, groupsOf(qStarts, qEnds, kStarts, kEnds, causal, q.size(0), k.size(0)), q, k, v, scale);
    ctx->save_for_backward({q, k, v, out, lse});
    ctx->saved_data["q_starts"] = qStarts;
    ctx->saved_data["q_ends"] = qEnds;
    ctx->saved_data["k_starts"] = kStarts;
    ctx->saved_data["k_ends"] = kEnds;
    auto flags = c10::List<bool>();
    for (const bool flag : causal) flags.push_back(flag);
    ctx->saved_data["causal"] = flags;
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["math"] = kernel == Kernel::Math;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &lse = saved[4];
    const auto list = [&](const char* key) { return ctx->saved_data[key].toIntVector(); };
    std::vector<bool> causal;
    for (const bool flag : ctx->saved_data["causal"].toBoolList()) causal.push_back(flag);
    const double scale = ctx->saved_data["scale"].toDouble();
    const Kernel kernel = ctx->saved_data["math"].toBool() ? Kernel::Math : Kernel::Flash;
    const auto groups =
        groupsOf(list("q_starts"), list("q_ends"), list("k_starts"), list("k_ends"), causal, q.size(0), k.size(0));
    const Tensor gradient = gradients[0];
    // Several parts add into one row: in 16 bits each addition would round.
    const auto sum = [&](const Tensor& t) { return at::zeros(t.sizes(), t.options().dtype(accumulationType(t))); };
    Tensor dq = sum(q), dk = sum(k), dv = sum(v);
    for (const Group& group : groups) {
      // The merged output and log-sum-exp make every part's weights those of the one softmax over all parts.
      const Tensor partGradient = rows(gradient, group.qBegin, group.qEnd),
                   partOut = rows(out, group.qBegin, group.qEnd);
      const Tensor partLse = lse.narrow(1, group.qBegin, group.qEnd - group.qBegin).unsqueeze(0);
      for (const Part& part : group.parts) {
        const PartGradients grads =
            partBackward(kernel, partGradient, rows(q, part.qBegin, part.qEnd), rows(k, part.kBegin, part.kEnd),
                         rows(v, part.kBegin, part.kEnd), partOut, partLse, part.causal, scale);
        rows(dq, part.qBegin, part.qEnd).add_(grads.q);
        rows(dk, part.kBegin, part.kEnd).add_(grads.k);
        rows(dv, part.kBegin, part.kEnd).add_(grads.v);
      }
    }
    return {dq.to(q.scalar_type()), dk.to(k.scalar_type()), dv.to(v.scalar_type()), {}, {}, {}, {}, {}, {}, {}};
  }
};

std::vector<bool> flagsOf(const c10::List<bool>& list) {
  std::vector<bool> flags;
  for (const bool flag : list) flags.push_back(flag);
  return flags;
}

Tensor packedAttention(const Tensor& q, const Tensor& k, const Tensor& v, at::IntArrayRef qStarts,
                       at::IntArrayRef qEnds, at::IntArrayRef kStarts, at::IntArrayRef kEnds,
                       const c10::List<bool>& causal, double scale, c10::string_view kernel) {
  checkInputs(q, k, v);
  return forwardAll(chooseKernel(q, kernel),
                    groupsOf(qStarts, qEnds, kStarts, kEnds, flagsOf(causal), q.size(0), k.size(0)), q, k, v, scale)
      .first;
}

Tensor packedAttentionAutograd(const Tensor& q, const Tensor& k, const Tensor& v, at::IntArrayRef qStarts,
                               at::IntArrayRef qEnds, at::IntArrayRef kStarts, at::IntArrayRef kEnds,
                               const c10::List<bool>& causal, double scale, c10::string_view kernel) {
  checkInputs(q, k, v);
  return PackedAttention::apply(q, k, v, qStarts.vec(), qEnds.vec(), kStarts.vec(), kEnds.vec(), flagsOf(causal), scale,
                                std::string(kernel));
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

#include "attention_plan.h"

#include <algorithm>
#include <string>

#include "errors.h"

namespace srum {
namespace {

[[noreturn]] void badPlan(const std::string& message) { throw CallError("ERR_ARGUMENT", "plan: " + message); }

}  // namespace

AttentionPlan::AttentionPlan(at::IntArrayRef qStarts, at::IntArrayRef qEnds, at::IntArrayRef kStarts,
                             at::IntArrayRef kEnds, const c10::List<bool>& causal, int64_t qRows, int64_t kRows) {
  const size_t count = qStarts.size();
  if (qEnds.size() != count || kStarts.size() != count || kEnds.size() != count || causal.size() != count)
    badPlan("the lists differ in length");
  std::vector<bool> covered(static_cast<size_t>(qRows), false);
  groups.reserve(count);
  ranges_.reserve(2 * count);
  for (size_t i = 0; i < count; ++i) {
    const int64_t nq = qEnds[i] - qStarts[i], nk = kEnds[i] - kStarts[i];
    if (qStarts[i] < 0 || nq < 0 || qEnds[i] > qRows)
      badPlan("query range outside the " + std::to_string(qRows) + " rows");
    if (kStarts[i] < 0 || nk < 0 || kEnds[i] > kRows)
      badPlan("key range outside the " + std::to_string(kRows) + " rows");
    if (nq == 0 || nk == 0) continue;
    const bool isCausal = causal[i];
    if (isCausal && nk < nq) badPlan("a causal call needs at least as many keys as queries");
    if (groups.empty() || groups.back().qBegin != qStarts[i] || groups.back().qEnd != qEnds[i]) {
      for (int64_t row = qStarts[i]; row < qEnds[i]; ++row) {
        if (covered[row]) badPlan("query ranges overlap without being equal and adjacent");
        covered[row] = true;
      }
      groups.push_back({qStarts[i], qEnds[i], nullptr, 0, 0, 0});
      coveredRows += nq;
    }
    cpu::AttentionGroup& group = groups.back();
    group.keys += nk;
    scores += nq * nk;
    // The only row of a causal call sees all its keys.
    const int64_t square = isCausal && nq > 1 ? nq : 0;
    if (nk > square) {
      ranges_.push_back({kStarts[i], kEnds[i] - square, false});
      ++group.rangeCount;
    }
    if (square > 0) {
      ranges_.push_back({kEnds[i] - square, kEnds[i], true});
      ++group.rangeCount;
      ++group.triangles;
    }
  }
  cpu::KeyRange* range = ranges_.data();
  for (cpu::AttentionGroup& group : groups) {
    group.ranges = range;
    // Causal ranges last: then what a row does not see is at the end.
    if (group.triangles > 0)
      std::stable_partition(range, range + group.rangeCount, [](const cpu::KeyRange& r) { return !r.causal; });
    range += group.rangeCount;
  }
}

}  // namespace srum

// What is done before and after the calls of one operator, so that no arguments end the process.
#pragma once
#include <ATen/core/stack.h>

#include <string>
#include <utility>
#include <vector>

#include "convert.h"

namespace srum {

class Guards {
 public:
  // `name` is qualified, without overload.
  Guards(const std::string& name, const std::vector<Param>& params);

  // Throws CallError for arguments that the operator would not survive, or would not end with.
  void before(const std::vector<Param>& params, torch::jit::Stack& arguments) const;
  // Replaces results through which a caller could reach what other operators believe.
  void after(torch::jit::Stack& results) const;

 private:
  // Looks at one argument, or at all of them; throws CallError.
  using ArgumentCheck = void (*)(const Param& param, const c10::IValue& argument);
  using CallCheck = void (*)(const std::vector<Param>& params, const torch::jit::Stack& arguments);

  std::vector<std::pair<size_t, ArgumentCheck>> argumentChecks_;
  std::vector<CallCheck> callChecks_;
  // Arguments and results that are replaced by copies: indices of sparse tensors, which nobody checks a second time.
  std::vector<size_t> copiedArguments_;
  bool copiesResult_ = false;
  bool aliasesResult_ = false;
};

}  // namespace srum

// Calls that would end the process instead of throwing are refused here.
#pragma once
#include <ATen/core/stack.h>

#include <string>
#include <vector>

#include "convert.h"

namespace srum {

// Why the operator (qualified, without overload) is not offered to JavaScript; null when it is.
const char* refusalOf(const std::string& name);

// Throws CallError when the extents' product leaves 64 bits, zeros aside: resizing to it would leave a broken tensor.
void guardSize(const Param& param, const c10::IValue& argument);
// Throws CallError for an output that has several elements at one place: not every operator looks.
void guardOutput(const Param& param, const c10::IValue& argument);

// Throws CallError for arguments that the operator itself would not survive.
using Guard = void (*)(const std::vector<Param>& params, const torch::jit::Stack& arguments);
// What has to be looked at before the operator is called; null when nothing has.
Guard guardOf(const std::string& name);

}  // namespace srum

#include "guards.h"

#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/MemoryOverlap.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>
#include <type_traits>

#include "errors.h"

namespace srum {
namespace {

using Params = std::vector<Param>;
using torch::jit::Stack;

constexpr int64_t kSmallest = std::numeric_limits<int64_t>::min();
constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
// Beyond the addresses of any machine, and so small that products with an element's size or a few strides stay exact.
constexpr int64_t kLargestExtent = int64_t{1} << 48;
// Polynomials are evaluated by their recurrence, once per degree and element, and nothing can interrupt that.
constexpr double kLargestDegree = 1 << 20;

[[noreturn]] void refuse(const Param& param, const std::string& what, const char* code = "ERR_ARGUMENT") {
  throw CallError(code, "argument '" + param.name + "' " + what);
}

// --- one argument

// Sizes, strides, paddings: kernels multiply them.
void checkExtents(const Param& param, const c10::IValue& argument) {
  if (!argument.isIntList()) return;
  const std::vector<int64_t> entries = argument.toIntVector();
  // A whole tensor of such a size is refused by the allocator, with its own words.
  for (const int64_t entry : entries)
    if (param.name != "size" && (entry > kLargestExtent || entry < -kLargestExtent))
      refuse(param, "has an entry beyond 2^48: " + std::to_string(entry), "ERR_SHAPE");
  // A list of N places is read without a look at its length.
  const size_t places = param.fixedLength;
  if (places > 1 && entries.size() > 1 && entries.size() != places)
    refuse(param, "must have 1 or " + std::to_string(places) + " entries, found " + std::to_string(entries.size()));
}

// Resizing to extents whose product leaves 64 bits, zeros aside, would leave a broken tensor.
void checkSize(const Param& param, const c10::IValue& argument) {
  if (!argument.isIntList()) return;
  int64_t product = 1;
  for (const int64_t extent : argument.toIntVector())
    if (__builtin_mul_overflow(product, std::max<int64_t>(extent, 1), &product))
      refuse(param, "is too large", "ERR_SHAPE");
}

// Not every operator looks whether several elements of its output lie at one place.
void checkOutput(const Param& param, const c10::IValue& argument) {
  if (!argument.isTensor()) return;
  const at::Tensor& tensor = argument.toTensor();
  if (tensor.layout() == c10::kStrided && at::has_internal_overlap(tensor) == at::MemOverlap::Yes)
    refuse(param, "is written to, but several of its elements share one place");
}

// The power's magnitude is halved until it is 0; the smallest integer has none.
void checkPower(const Param& param, const c10::IValue& argument) {
  if (argument.isInt() && argument.toInt() == kSmallest) refuse(param, "must be greater than -2^63");
}

// Rounded to the tensor's precision, the number after it is looked for.
void checkLowest(const Param& param, const c10::IValue& argument) {
  if (argument.isInt() && argument.toInt() == kLargest) refuse(param, "must be less than 2^63 - 1");
}

void checkDegree(const Param& param, const c10::IValue& argument) {
  bool small = true;
  if (argument.isTensor()) {
    const at::Tensor& degree = argument.toTensor();
    if (degree.device().is_meta() || degree.layout() != c10::kStrided || degree.is_complex() || degree.numel() == 0)
      return;
    small = !degree.detach().to(c10::kDouble).gt(kLargestDegree).any().item<bool>();
  } else if (argument.isScalar() && !argument.toScalar().isComplex()) {
    small = !(argument.toScalar().toDouble() > kLargestDegree);
  }
  if (!small) refuse(param, "must be at most 2^20: the polynomial takes one step per degree");
}

// Samples are drawn until one is accepted, and none is where the count or the probability is no number.
void checkNumber(const Param& param, const c10::IValue& argument) {
  if (!argument.isTensor()) return;
  const at::Tensor& tensor = argument.toTensor();
  if (tensor.device().is_meta() || tensor.layout() != c10::kStrided || !tensor.is_floating_point()) return;
  if (tensor.detach().isnan().any().item<bool>()) refuse(param, "must not contain NaN");
}

// Where bags begin: the first one is read when there is a row, be it empty.
void checkOffsets(const Param& param, const c10::IValue& argument) {
  if (argument.isTensor() && argument.toTensor().dim() != 1) refuse(param, "must have one dimension", "ERR_SHAPE");
}

// --- all arguments

// The tensors of a call lie together: on the meta device, where they have no memory, or elsewhere. A scalar goes
// everywhere.
void checkMeta(const Params& params, const Stack& arguments) {
  bool meta = false, real = false;
  const auto look = [&](const at::Tensor& tensor, const Param& param) {
    if (!tensor.defined()) return;
    if (tensor.device().is_meta())
      meta = true;
    else if (tensor.dim() > 0)
      real = true;
    if (meta && real)
      refuse(param, "and an argument before it do not lie together: one has no memory (device meta)", "ERR_DEVICE");
  };
  for (size_t i = 0; i < arguments.size(); ++i) {
    const c10::IValue& argument = arguments[i];
    if (argument.isTensor()) {
      look(argument.toTensor(), params[i]);
    } else if (params[i].kind == Kind::TensorList || params[i].kind == Kind::OptionalTensorList) {
      if (argument.isList())
        for (const c10::IValue& element : argument.toListRef())
          if (element.isTensor()) look(element.toTensor(), params[i]);
    }
  }
}

// aten::_foreach_*: every list as long as the first, and none empty.
void checkLists(const Params& params, const Stack& arguments) {
  size_t length = 0;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const Kind kind = params[i].kind;
    if (kind != Kind::TensorList && kind != Kind::ScalarList) continue;
    const size_t size = arguments[i].toListRef().size();
    if (size == 0) refuse(params[i], "is an empty list");
    if (length != 0 && size != length) refuse(params[i], "must have as many entries as the first list");
    length = size;
  }
}

bool isIntegral(const at::Tensor& tensor) { return c10::isIntegralType(tensor.scalar_type(), false); }

// Integer division that truncates traps for the smallest value by -1, whose quotient does not exist.
void checkDivision(const Params& params, const Stack& arguments) {
  bool truncates = false;
  for (size_t i = 2; i < arguments.size(); ++i)
    truncates = truncates ||
                (params[i].name == "rounding_mode" && arguments[i].isString() && arguments[i].toStringRef() == "trunc");
  if (!truncates || !arguments[0].isTensor() || !isIntegral(arguments[0].toTensor())) return;
  const at::Tensor& dividend = arguments[0].toTensor();
  const c10::IValue& divisor = arguments[1];
  if (!dividend.device().is_cpu() || dividend.numel() == 0) return;
  if (divisor.isTensor()) {
    const at::Tensor& tensor = divisor.toTensor();
    if (!isIntegral(tensor) || !tensor.device().is_cpu() || !tensor.eq(-1).any().item<bool>()) return;
  } else if (!divisor.isInt() || divisor.toInt() != -1) {
    return;
  }
  const bool smallest = AT_DISPATCH_INTEGRAL_TYPES(dividend.scalar_type(), "div", [&] {
    return std::is_signed_v<scalar_t> &&
           dividend.eq(static_cast<int64_t>(std::numeric_limits<scalar_t>::min())).any().item<bool>();
  });
  if (smallest) throw CallError("ERR_ARGUMENT", "the smallest integer cannot be divided by -1");
}

// Sizes and strides whose product leaves 64 bits would pass for ones that fit the storage.
void checkStrides(const Params& params, const Stack& arguments) {
  constexpr int64_t kLimit = int64_t{1} << 58;
  std::vector<int64_t> size, stride;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (params[i].name == "size" && arguments[i].isIntList()) size = arguments[i].toIntVector();
    if (params[i].name == "stride" && arguments[i].isIntList()) stride = arguments[i].toIntVector();
    if (params[i].name == "storage_offset" && arguments[i].isInt() && arguments[i].toInt() > kLimit)
      refuse(params[i], "is too large");
  }
  int64_t last = 0;
  for (size_t i = 0; i < std::min(size.size(), stride.size()); ++i) {
    int64_t reach = 0;
    if (size[i] == 0) return;
    if (__builtin_mul_overflow(size[i] - 1, stride[i], &reach) || __builtin_add_overflow(last, reach, &last) ||
        last > kLimit)
      throw CallError("ERR_ARGUMENT", "size and stride are too large");
  }
}

// The gates' weights are taken from the list one after the other, without a look at its end.
void checkRecurrent(const Params& params, const Stack& arguments) {
  int64_t given = 0, layers = 1;
  bool biases = true, both = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (params[i].name == "params") given = static_cast<int64_t>(arguments[i].toListRef().size());
    if (params[i].name == "num_layers") layers = arguments[i].toInt();
    if (params[i].name == "has_biases") biases = arguments[i].toBool();
    if (params[i].name == "bidirectional") both = arguments[i].toBool();
  }
  if (layers < 1 || layers > given) throw CallError("ERR_ARGUMENT", "there are not 'params' for 'num_layers'");
  const int64_t cells = layers * (both ? 2 : 1), plain = biases ? 4 : 2;
  // A projection adds one weight.
  if (given != cells * plain && given != cells * (plain + 1))
    throw CallError("ERR_ARGUMENT", "'params' must have " + std::to_string(cells * plain) + " tensors, or " +
                                        std::to_string(cells * (plain + 1)) + " with projections");
}

// A range of integers divides by its step, made an integer.
void checkStep(const Params& params, const Stack& arguments) {
  bool integral = false;
  const c10::IValue* step = nullptr;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const c10::IValue& argument = arguments[i];
    if (params[i].kind == Kind::ScalarType && argument.isInt())
      integral = c10::isIntegralType(static_cast<c10::ScalarType>(argument.toInt()), true);
    if (argument.isTensor()) integral = c10::isIntegralType(argument.toTensor().scalar_type(), true);
    if (params[i].name == "step" && argument.isScalar() && !argument.toScalar().isComplex()) step = &argument;
  }
  if (integral && step != nullptr && std::abs(step->toScalar().toDouble()) < 1)
    throw CallError("ERR_ARGUMENT", "argument 'step' must be 1 or more, or -1 or less, in a range of integers");
}

// The gradient of no pairs at all is looked for in memory that is not there.
void checkPairs(const Params&, const Stack& arguments) {
  const at::Tensor& self = arguments[0].toTensor();
  if (self.requires_grad() && self.dim() > 0 && self.size(0) == 0)
    throw CallError("ERR_SHAPE", "there is no gradient of the distances of no rows");
}

// --- which operators

template <size_t N>
bool isOneOf(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// These compare their tensors, or copy between them, and touch no memory of a meta tensor.
bool takesMeta(std::string_view name) {
  constexpr std::array<std::string_view, 16> kNames{
      "can_cast",   "copy_",     "equal",      "expand_as",   "is_same_size", "is_set_to", "isin",    "promote_types",
      "reshape_as", "resize_as", "resize_as_", "result_type", "set_",         "set_data",  "type_as", "view_as"};
  return isOneOf(name, kNames) || name == "to";
}

constexpr std::array<std::string_view, 7> kSparseIndices{
    "ccol_indices", "col_indices", "compressed_indices", "crow_indices", "indices", "plain_indices", "row_indices"};

bool makesSparse(std::string_view name) { return name.starts_with("sparse_") && name.ends_with("_tensor"); }

}  // namespace

Guards::Guards(const std::string& qualified, const Params& params) {
  const size_t colons = qualified.find("::");
  const std::string_view name = std::string_view(qualified).substr(colons + 2);
  const bool polynomial = name.find("_polynomial_") != name.npos;
  size_t tensors = 0;
  for (size_t i = 0; i < params.size(); ++i) {
    const Param& param = params[i];
    if (param.kind == Kind::Tensor) ++tensors;
    if (param.kind == Kind::TensorList || param.kind == Kind::OptionalTensorList) tensors += 2;
    if (param.kind == Kind::IntList) argumentChecks_.emplace_back(i, checkExtents);
    if (param.name == "size" && param.kind == Kind::IntList) argumentChecks_.emplace_back(i, checkSize);
    if (param.isWrite && param.keywordOnly) argumentChecks_.emplace_back(i, checkOutput);
    if (param.name == "n" && polynomial) argumentChecks_.emplace_back(i, checkDegree);
    if (param.name == "n" && name.ends_with("matrix_power")) argumentChecks_.emplace_back(i, checkPower);
    if (param.name == "from" && (name == "random" || name == "random_")) argumentChecks_.emplace_back(i, checkLowest);
    if (param.kind == Kind::Tensor && name == "binomial") argumentChecks_.emplace_back(i, checkNumber);
    if (param.name == "offsets" && name.find("embedding_bag") != name.npos)
      argumentChecks_.emplace_back(i, checkOffsets);
    if (param.kind == Kind::Tensor && makesSparse(name) && isOneOf(param.name, kSparseIndices))
      copiedArguments_.push_back(i);
  }
  if (tensors > 1 && !takesMeta(name)) callChecks_.push_back(checkMeta);
  if (name.starts_with("_foreach_")) callChecks_.push_back(checkLists);
  if (name == "div" || name == "div_" || name == "divide" || name == "divide_") callChecks_.push_back(checkDivision);
  if (name == "lstm" || name == "gru" || name == "rnn_tanh" || name == "rnn_relu")
    callChecks_.push_back(checkRecurrent);
  if (name == "range" || name == "arange") callChecks_.push_back(checkStep);
  if (name == "pdist") callChecks_.push_back(checkPairs);
  if (name.find("_strided") != name.npos || name == "set_") callChecks_.push_back(checkStrides);
  copiesResult_ = name == "_indices" || isOneOf(name, kSparseIndices);
  aliasesResult_ = name == "_values";
}

void Guards::before(const Params& params, Stack& arguments) const {
  for (const auto& [place, look] : argumentChecks_) look(params[place], arguments[place]);
  for (const CallCheck look : callChecks_) look(params, arguments);
  for (const size_t place : copiedArguments_)
    if (arguments[place].isTensor()) arguments[place] = arguments[place].toTensor().clone();
}

void Guards::after(Stack& results) const {
  if (!copiesResult_ && !aliasesResult_) return;
  // Otherwise the tensor's own part could be written to or resized.
  for (c10::IValue& result : results)
    if (result.isTensor()) result = copiesResult_ ? result.toTensor().clone() : at::alias(result.toTensor());
}

}  // namespace srum

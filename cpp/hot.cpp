#include "hot.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/add_ops.h>
#include <ATen/ops/copy_ops.h>
#include <ATen/ops/detach_ops.h>
#include <ATen/ops/div_ops.h>
#include <ATen/ops/exp_ops.h>
#include <ATen/ops/index_select_ops.h>
#include <ATen/ops/linear_ops.h>
#include <ATen/ops/matmul_ops.h>
#include <ATen/ops/mean_ops.h>
#include <ATen/ops/mul_ops.h>
#include <ATen/ops/narrow_ops.h>
#include <ATen/ops/neg_ops.h>
#include <ATen/ops/permute_ops.h>
#include <ATen/ops/relu_ops.h>
#include <ATen/ops/reshape_ops.h>
#include <ATen/ops/rsqrt_ops.h>
#include <ATen/ops/select_ops.h>
#include <ATen/ops/silu_ops.h>
#include <ATen/ops/slice_ops.h>
#include <ATen/ops/sub_ops.h>
#include <ATen/ops/sum_ops.h>
#include <ATen/ops/transpose_ops.h>
#include <ATen/ops/unsqueeze_ops.h>
#include <ATen/ops/view_ops.h>

#include <tuple>
#include <type_traits>
#include <utility>

#include "convert.h"
#include "dispatch.h"
#include "errors.h"

namespace srum {
namespace {

[[noreturn]] void wrong(const char* expected) {
  throw CallError("ERR_ARGUMENT", std::string(expected) + " is expected");
}

// How one C++ parameter is read from JavaScript; `Storage` outlives the call.
template <typename T>
struct Read;

template <>
struct Read<const at::Tensor&> {
  using Storage = at::Tensor;
  static Storage from(napi_env env, napi_value value) { return HandleTable::instance().get(handleOf(env, value)); }
};

template <>
struct Read<at::Tensor&> : Read<const at::Tensor&> {};

template <>
struct Read<const std::optional<at::Tensor>&> {
  using Storage = std::optional<at::Tensor>;
  static Storage from(napi_env env, napi_value value) {
    if (isNullish(env, value)) return std::nullopt;
    return HandleTable::instance().get(handleOf(env, value));
  }
};

template <>
struct Read<int64_t> {
  using Storage = int64_t;
  static Storage from(napi_env env, napi_value value) { return intOf(env, value); }
};

template <>
struct Read<c10::SymInt> {
  using Storage = c10::SymInt;
  static Storage from(napi_env env, napi_value value) { return intOf(env, value); }
};

template <>
struct Read<std::optional<c10::SymInt>> {
  using Storage = std::optional<c10::SymInt>;
  static Storage from(napi_env env, napi_value value) {
    if (isNullish(env, value)) return std::nullopt;
    return c10::SymInt(intOf(env, value));
  }
};

template <>
struct Read<at::IntArrayRef> {
  using Storage = std::vector<int64_t>;
  static Storage from(napi_env env, napi_value value) { return intsOf(env, value); }
};

template <>
struct Read<c10::SymIntArrayRef> {
  struct Storage {
    std::vector<int64_t> values;
    operator c10::SymIntArrayRef() const { return c10::fromIntArrayRefSlow(values); }
  };
  static Storage from(napi_env env, napi_value value) { return {intsOf(env, value)}; }
};

template <>
struct Read<at::OptionalIntArrayRef> {
  struct Storage {
    std::optional<std::vector<int64_t>> values;
    operator at::OptionalIntArrayRef() const {
      return values ? at::OptionalIntArrayRef(*values) : at::OptionalIntArrayRef();
    }
  };
  static Storage from(napi_env env, napi_value value) {
    if (isNullish(env, value)) return {std::nullopt};
    return {intsOf(env, value)};
  }
};

template <>
struct Read<const at::Scalar&> {
  using Storage = at::Scalar;
  static Storage from(napi_env env, napi_value value) {
    // An omitted alpha is 1: the only Scalar with a default among these operators.
    if (isNullish(env, value)) return int64_t{1};
    return scalarOf(env, value);
  }
};

template <>
struct Read<bool> {
  using Storage = bool;
  static Storage from(napi_env env, napi_value value) {
    bool flag = false;
    if (!isNullish(env, value) && napi_get_value_bool(env, value, &flag) != napi_ok) wrong("a boolean");
    return flag;
  }
};

template <>
struct Read<at::ScalarType> {
  using Storage = at::ScalarType;
  static Storage from(napi_env env, napi_value value) { return dtypeFromName(stringOf(env, value)); }
};

template <>
struct Read<std::optional<at::ScalarType>> {
  using Storage = std::optional<at::ScalarType>;
  static Storage from(napi_env env, napi_value value) {
    if (isNullish(env, value)) return std::nullopt;
    return dtypeFromName(stringOf(env, value));
  }
};

template <>
struct Read<std::optional<at::MemoryFormat>> {
  using Storage = std::optional<at::MemoryFormat>;
  static Storage from(napi_env env, napi_value value) {
    if (!isNullish(env, value)) wrong("no memory format");
    return std::nullopt;
  }
};

bool needsGradient(const at::Tensor& tensor) { return tensor.requires_grad(); }
bool needsGradient(const std::optional<at::Tensor>& tensor) { return tensor.has_value() && tensor->requires_grad(); }
template <typename Other>
bool needsGradient(const Other&) {
  return false;
}

template <typename Op, typename Schema>
struct Binding;

template <typename Op, typename Result, typename... Parameters>
struct Binding<Op, Result(Parameters...)> {
  static constexpr size_t kCount = sizeof...(Parameters);
  // An in-place operator returns its first argument, which the caller has already.
  static constexpr bool kInPlace = std::is_same_v<Result, at::Tensor&>;

  template <size_t... I>
  static napi_value run(napi_env env, const napi_value* argv, std::index_sequence<I...>) {
    std::tuple<typename Read<Parameters>::Storage...> values{Read<Parameters>::from(env, argv[I])...};
    if constexpr (kInPlace) {
      Op::call(std::get<I>(values)...);
      return nullptr;
    } else {
      // Where nothing needs a gradient, the autograd kernels would only pass the call on.
      std::optional<at::AutoDispatchBelowAutograd> belowAutograd;
      if (!(needsGradient(std::get<I>(values)) || ...)) belowAutograd.emplace();
      return newHandle(env, Op::call(std::get<I>(values)...));
    }
  }

  static napi_value call(napi_env env, napi_callback_info info) {
    size_t argc = kCount;
    napi_value argv[kCount];
    if (napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr) != napi_ok) return nullptr;
    try {
      return run(env, argv, std::make_index_sequence<kCount>());
    } catch (...) {
      throwWithContext(env, Op::name, Op::overload_name, argc, argv);
      return nullptr;
    }
  }
};

template <typename Op>
void add(napi_env env, napi_value object) {
  const std::string overload = Op::overload_name;
  const std::string name = std::string(Op::name).substr(6) + (overload.empty() ? "" : "." + overload);
  napi_value function;
  check(
      napi_create_function(env, name.c_str(), name.size(), Binding<Op, typename Op::schema>::call, nullptr, &function));
  check(napi_set_named_property(env, object, name.c_str(), function));
}

template <typename... Ops>
void addAll(napi_env env, napi_value object) {
  (add<Ops>(env, object), ...);
}

}  // namespace

napi_value hotOperators(napi_env env, napi_callback_info) {
  return guarded(env, "hotOperators", [&]() -> napi_value {
    namespace op = at::_ops;
    napi_value object;
    check(napi_create_object(env, &object));
    addAll<op::add_Tensor, op::add_Scalar, op::add__Tensor, op::add__Scalar, op::sub_Tensor, op::sub_Scalar,
           op::mul_Tensor, op::mul_Scalar, op::mul__Tensor, op::mul__Scalar, op::div_Tensor, op::div_Scalar, op::matmul,
           op::linear, op::view, op::view_dtype, op::reshape, op::transpose_int, op::permute, op::unsqueeze,
           op::select_int, op::narrow, op::slice_Tensor, op::index_select, op::copy_, op::relu, op::silu, op::neg,
           op::exp, op::rsqrt, op::sum, op::mean, op::detach>(env, object);
    return object;
  });
}

}  // namespace srum

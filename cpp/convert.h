// JavaScript values <-> IValues, guided by an operator's schema.
#pragma once
#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <node_api.h>

#include <string>
#include <vector>

#include "errors.h"
#include "handles.h"

namespace srum {

enum class Kind : uint8_t {
  Tensor,
  TensorList,
  OptionalTensorList,
  Int,
  IntList,
  Double,
  DoubleList,
  Bool,
  BoolList,
  Scalar,
  ScalarList,
  String,
  StringList,
  ScalarType,
  Layout,
  MemoryFormat,
  Device,
  Generator,
  Unsupported
};

const char* kindName(Kind kind);

struct Param {
  std::string name;
  Kind kind = Kind::Unsupported;
  bool optional = false;
  bool keywordOnly = false;
  bool isWrite = false;
  int fixedLength = 0;  // N of int[N]; a single number then stands for N of it
  bool hasDefault = false;
  c10::IValue defaultValue;
  std::string defaultText;
  std::string typeText;
};

Param paramOf(const c10::Argument& argument);

// Throws CallError ERR_ARGUMENT with the parameter's name when the value does not fit.
c10::IValue toIValue(napi_env env, napi_value value, const Param& param);

// Tensors become new handles, registered with the innermost scope.
napi_value fromIValue(napi_env env, const c10::IValue& value);
// Fills argv with the arguments of a call; those left out are undefined. Returns how many were given.
template <size_t N>
size_t arguments(napi_env env, napi_callback_info info, napi_value (&argv)[N]) {
  size_t argc = N;
  check(napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr));
  return argc;
}

// The numeric value behind a handle argument.
Handle handleOf(napi_env env, napi_value value);
// The tensor behind a handle argument; throws CallError when it was disposed.
at::Tensor tensorArgument(napi_env env, napi_value value);
napi_value newHandle(napi_env env, at::Tensor tensor);
std::string stringOf(napi_env env, napi_value value);
std::vector<int64_t> intsOf(napi_env env, napi_value value);
int64_t intOf(napi_env env, napi_value value);
at::Scalar scalarOf(napi_env env, napi_value value);
bool isNullish(napi_env env, napi_value value);

c10::ScalarType dtypeFromName(const std::string& name);
const char* dtypeName(c10::ScalarType dtype);

// "float32[2,3] cpu" and the like, for error messages.
std::string describe(const c10::IValue& value);

}  // namespace srum

// Every ATen operator through LibTorch's dispatcher, from its schema alone.
#pragma once
#include <node_api.h>

#include <cstddef>

namespace srum {

napi_value listOperators(napi_env env, napi_callback_info info);  // () -> [qualified name, ...]
napi_value schemasOf(napi_env env, napi_callback_info info);  // (qualified name) -> [{overload, params, returns}, ...]
napi_value bindOperator(napi_env env, napi_callback_info info);  // (qualified name, overload) -> (…arguments) => result
napi_value bindAsync(napi_env env, napi_callback_info info);     // the same, on a worker thread, returning a Promise

// Throws the exception in flight into JavaScript, naming the operator and describing its arguments.
void throwWithContext(napi_env env, const char* name, const char* overload, size_t argc, const napi_value* argv);

}  // namespace srum

// Tensors seen from JavaScript: metadata, typed arrays in and out, scopes, memory.
#pragma once
#include <node_api.h>

namespace srum {

napi_value tensorInfo(napi_env env, napi_callback_info info);  // (tensor) -> [dtype, device, requiresGrad, ...shape]
napi_value tensorItem(napi_env env, napi_callback_info info);  // (tensor) -> number | bigint | boolean
napi_value fromTypedArray(napi_env env, napi_callback_info info);  // (typed array, dtype, shape) -> handle; copies once
napi_value toArrayBuffer(napi_env env, napi_callback_info info);   // (tensor) -> ArrayBuffer; copies once
napi_value shareArrayBuffer(napi_env env,
                            napi_callback_info info);       // (tensor) -> ArrayBuffer over the tensor's own memory
napi_value dispose(napi_env env, napi_callback_info info);  // (tensor) -> was it alive?
napi_value isAlive(napi_env env, napi_callback_info info);
napi_value liveTensors(napi_env env, napi_callback_info info);
napi_value alias(napi_env env,
                 napi_callback_info info);  // (tensor) -> another handle of the same tensor, outside scopes
napi_value track(napi_env env, napi_callback_info info);      // (object, tensor): released when the object is collected
napi_value openBatch(napi_env env, napi_callback_info info);  // () -> object owning the small tensors made from now on
napi_value beginScope(napi_env env, napi_callback_info info);  // () -> depth
napi_value endScope(napi_env env, napi_callback_info info);    // (depth, kept handles)

}  // namespace srum

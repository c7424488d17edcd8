// LibTorch's autograd engine: gradients, gradient mode, inference mode.
#pragma once
#include <node_api.h>

namespace srum {

napi_value backward(napi_env env, napi_callback_info info);       // (outputs, gradients|null, retainGraph, createGraph)
napi_value backwardAsync(napi_env env, napi_callback_info info);  // the same off the main thread, a Promise
napi_value gradients(napi_env env,
                     napi_callback_info info);  // (outputs, inputs, gradients|null, retain, create, allowUnused)
napi_value getGrad(napi_env env, napi_callback_info info);          // (tensor) -> handle | null
napi_value setGrad(napi_env env, napi_callback_info info);          // (tensor, handle | null)
napi_value setRequiresGrad(napi_env env, napi_callback_info info);  // (tensor, flag)
napi_value setGradEnabled(napi_env env, napi_callback_info info);   // (flag) -> previous flag
napi_value pushInferenceMode(napi_env env, napi_callback_info info);
napi_value popInferenceMode(napi_env env, napi_callback_info info);

}  // namespace srum

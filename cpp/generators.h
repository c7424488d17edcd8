// Seeded random generators, named by small numbers like tensors are.
#pragma once
#include <ATen/core/Generator.h>
#include <node_api.h>

#include <cstdint>

namespace srum {

at::Generator generatorFrom(napi_env env, napi_value value);
void releaseGenerator(uint64_t id);

napi_value generatorNew(napi_env env, napi_callback_info info);       // (seed: bigint, device: string) -> number
napi_value generatorRelease(napi_env env, napi_callback_info info);   // (id)
napi_value generatorGetState(napi_env env, napi_callback_info info);  // (id) -> tensor handle, uint8
napi_value generatorSetState(napi_env env, napi_callback_info info);  // (id, tensor handle)

}  // namespace srum

// Entry of the addon: what JavaScript sees of the native floor.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <napi.h>
#include <torch/headeronly/version.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <string>
#include <thread>

#include "autograd.h"
#include "convert.h"
#include "dispatch.h"
#include "env.h"
#include "errors.h"
#include "generators.h"
#include "hot.h"
#include "small-blocks.h"
#include "tensors.h"

namespace srum {
namespace {

napi_value setNumThreads(napi_env env, napi_callback_info info) {
  return guarded(env, "setNumThreads", [&]() -> napi_value {
    napi_value argv[1];
    arguments(env, info, argv);
    const int64_t count = intOf(env, argv[0]);
    // The threads are made when they are first needed, and then a failure ends the process.
    const int64_t most = std::clamp<int64_t>(int64_t{8} * std::thread::hardware_concurrency(), 64, 1024);
    if (count < 1 || count > most)
      throw CallError("ERR_ARGUMENT", "thread count must be 1 to " + std::to_string(most) + " on this machine");
    at::set_num_threads(static_cast<int>(count));
    return nullptr;
  });
}

napi_value getNumThreads(napi_env env, napi_callback_info) {
  return guarded(env, "getNumThreads", [&]() -> napi_value {
    napi_value result;
    check(napi_create_int32(env, at::get_num_threads(), &result));
    return result;
  });
}

napi_value runtimeInfo(napi_env env, napi_callback_info) {
  return guarded(env, "runtimeInfo", [&]() -> napi_value {
    napi_value object, value;
    check(napi_create_object(env, &object));
    check(napi_create_string_utf8(env, TORCH_VERSION, NAPI_AUTO_LENGTH, &value));
    check(napi_set_named_property(env, object, "builtFor", value));
    const std::string config = at::show_config();
    check(napi_create_string_utf8(env, config.data(), config.size(), &value));
    check(napi_set_named_property(env, object, "config", value));
    const bool cuda = at::globalContext().hasCUDA();
    check(napi_get_boolean(env, cuda, &value));
    check(napi_set_named_property(env, object, "cuda", value));
    check(napi_create_int32(
        env, cuda ? static_cast<int32_t>(at::globalContext().getAcceleratorHooksInterface(at::kCUDA).deviceCount()) : 0,
        &value));
    check(napi_set_named_property(env, object, "cudaDevices", value));
    check(napi_create_string_utf8(env, at::get_cpu_capability().c_str(), NAPI_AUTO_LENGTH, &value));
    check(napi_set_named_property(env, object, "cpuCapability", value));
    return object;
  });
}

// Tensors of a few megabytes come and go by the thousand. glibc would give their pages back to the system each time and
// fault them in again, which can cost more than the arithmetic; it is told to keep a moderate reserve, unless the user
// tuned it.
void tuneAllocator() {
#ifdef __GLIBC__
  if (std::getenv("MALLOC_TRIM_THRESHOLD_") != nullptr || std::getenv("MALLOC_MMAP_THRESHOLD_") != nullptr) return;
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 128 << 20);
#endif
}

void releaseEnv(napi_env, void* data, void*) {
  auto* env = static_cast<EnvData*>(data);
  HandleTable& table = HandleTable::instance();
  for (const auto& scope : env->scopes) table.releaseAll(scope);
  for (const Handle handle : env->unwatched) table.release(handle);
  env->use(nullptr);
  for (const uint64_t id : env->generators) releaseGenerator(id);
  delete env;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  static const bool prepared = [] {
    tuneAllocator();
    keepSmallBlocks();
    // Sparse tensors are checked when they are made: the operators on them believe their indices.
    at::globalContext().setCheckSparseTensorInvariants(true);
    return true;
  }();
  (void)prepared;
  napi_set_instance_data(env, new EnvData(), releaseEnv, nullptr);
  const struct {
    const char* name;
    napi_callback callback;
  } functions[] = {
      {"setErrorClass", setErrorClass},
      {"listOperators", listOperators},
      {"schemasOf", schemasOf},
      {"bindOperator", bindOperator},
      {"bindAsync", bindAsync},
      {"hotOperators", hotOperators},
      {"tensorInfo", tensorInfo},
      {"tensorItem", tensorItem},
      {"fromTypedArray", fromTypedArray},
      {"toArrayBuffer", toArrayBuffer},
      {"shareArrayBuffer", shareArrayBuffer},
      {"dispose", dispose},
      {"isAlive", isAlive},
      {"liveTensors", liveTensors},
      {"alias", alias},
      {"track", track},
      {"openBatch", openBatch},
      {"beginScope", beginScope},
      {"endScope", endScope},
      {"backward", backward},
      {"backwardAsync", backwardAsync},
      {"gradients", gradients},
      {"getGrad", getGrad},
      {"setGrad", setGrad},
      {"setRequiresGrad", setRequiresGrad},
      {"setGradEnabled", setGradEnabled},
      {"pushInferenceMode", pushInferenceMode},
      {"popInferenceMode", popInferenceMode},
      {"generatorNew", generatorNew},
      {"generatorRelease", generatorRelease},
      {"generatorGetState", generatorGetState},
      {"generatorSetState", generatorSetState},
      {"setNumThreads", setNumThreads},
      {"getNumThreads", getNumThreads},
      {"runtimeInfo", runtimeInfo},
  };
  for (const auto& entry : functions) {
    napi_value function;
    if (napi_create_function(env, entry.name, NAPI_AUTO_LENGTH, entry.callback, nullptr, &function) == napi_ok)
      napi_set_named_property(env, exports, entry.name, function);
  }
  return exports;
}

}  // namespace
}  // namespace srum

static Napi::Object initAddon(Napi::Env env, Napi::Object exports) { return srum::init(env, exports); }
NODE_API_MODULE(srum, initAddon)

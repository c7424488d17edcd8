#include "generators.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <mutex>
#include <unordered_map>

#include "convert.h"
#include "env.h"
#include "errors.h"

namespace srum {
namespace {

struct Generators {
  std::mutex mutex;
  std::unordered_map<uint64_t, at::Generator> live;
  uint64_t next = 1;
};

Generators& generators() {
  static Generators* table = new Generators();
  return *table;
}

at::Generator make(const c10::Device& device, uint64_t seed) {
  if (device.is_cpu()) return at::detail::createCPUGenerator(seed);
  at::Generator generator = at::globalContext().defaultGenerator(device).clone();
  generator.set_current_seed(seed);
  return generator;
}

}  // namespace

at::Generator generatorFrom(napi_env env, napi_value value) {
  const uint64_t id = handleOf(env, value);
  Generators& table = generators();
  std::lock_guard<std::mutex> lock(table.mutex);
  const auto found = table.live.find(id);
  if (found == table.live.end()) throw CallError("ERR_DISPOSED", "the generator was disposed");
  return found->second;
}

void releaseGenerator(uint64_t id) {
  Generators& table = generators();
  std::lock_guard<std::mutex> lock(table.mutex);
  table.live.erase(id);
}

napi_value generatorNew(napi_env env, napi_callback_info info) {
  return guarded(env, "Generator", [&]() -> napi_value {
    napi_value argv[2];
    arguments(env, info, argv);
    uint64_t seed;
    bool lossless;
    if (napi_get_value_bigint_uint64(env, argv[0], &seed, &lossless) != napi_ok || !lossless)
      throw CallError("ERR_ARGUMENT", "seed must be a whole number from 0 to 2^64-1");
    at::Generator generator = make(c10::Device(stringOf(env, argv[1])), seed);
    Generators& table = generators();
    std::lock_guard<std::mutex> lock(table.mutex);
    const uint64_t id = table.next++;
    table.live.emplace(id, std::move(generator));
    EnvData::of(env)->generators.insert(id);
    napi_value result;
    check(napi_create_double(env, static_cast<double>(id), &result));
    return result;
  });
}

napi_value generatorRelease(napi_env env, napi_callback_info info) {
  return guarded(env, "Generator.dispose", [&]() -> napi_value {
    napi_value argv[1];
    arguments(env, info, argv);
    const uint64_t id = handleOf(env, argv[0]);
    // Another thread's generators are not ours to release.
    if (EnvData::of(env)->generators.erase(id) > 0) releaseGenerator(id);
    return nullptr;
  });
}

napi_value generatorGetState(napi_env env, napi_callback_info info) {
  return guarded(env, "Generator.state", [&]() -> napi_value {
    napi_value argv[1];
    arguments(env, info, argv);
    at::Generator generator = generatorFrom(env, argv[0]);
    std::lock_guard<std::mutex> lock(generator.mutex());
    return newHandle(env, generator.get_state());
  });
}

napi_value generatorSetState(napi_env env, napi_callback_info info) {
  return guarded(env, "Generator.setState", [&]() -> napi_value {
    napi_value argv[2];
    arguments(env, info, argv);
    at::Generator generator = generatorFrom(env, argv[0]);
    const at::Tensor state = tensorArgument(env, argv[1]);
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(state);
    return nullptr;
  });
}

}  // namespace srum

#include "tensors.h"

#include <ATen/Functions.h>

#include <cstring>
#include <memory>
#include <unordered_set>

#include "convert.h"
#include "env.h"
#include "errors.h"

namespace srum {
namespace {

napi_value text(napi_env env, const char* value) {
  napi_value result;
  check(napi_create_string_utf8(env, value, NAPI_AUTO_LENGTH, &result));
  return result;
}

at::Tensor hostContiguous(const at::Tensor& tensor) {
  if (tensor.layout() != c10::kStrided) throw CallError("ERR_NOT_IMPLEMENTED", "only strided tensors can be read");
  if (tensor.device().is_meta()) throw CallError("ERR_DEVICE", "a meta tensor has no data");
  // Symbolic zeros have a size but no memory.
  const at::Tensor real = tensor._is_zerotensor() ? tensor.clone() : tensor;
  return real.detach().resolve_conj().resolve_neg().to(c10::kCPU).contiguous();
}

// For a buffer too big for the machine, V8's own function ends the process; JavaScript's constructor throws.
bool newArrayBuffer(napi_env env, size_t bytes, void** data, napi_value* buffer) {
  constexpr size_t kHarmless = size_t{64} << 20;
  if (bytes <= kHarmless) return napi_create_arraybuffer(env, bytes, data, buffer) == napi_ok;
  napi_value global, constructor, length;
  check(napi_get_global(env, &global));
  check(napi_get_named_property(env, global, "ArrayBuffer", &constructor));
  check(napi_create_double(env, static_cast<double>(bytes), &length));
  if (napi_new_instance(env, constructor, 1, &length, buffer) != napi_ok) {
    napi_value ignored;
    napi_get_and_clear_last_exception(env, &ignored);
    return false;
  }
  size_t got = 0;
  return napi_get_arraybuffer_info(env, *buffer, data, &got) == napi_ok && got == bytes;
}

void reportReleased(node_api_basic_env env, const HandleTable::Released& released) {
  int64_t total;
  if (released.reported > 0) napi_adjust_external_memory(env, -released.reported, &total);
}

// Both finalizers run inside the collector: they may free memory, but never touch JavaScript.
void releaseTracked(node_api_basic_env env, void* data, void*) {
  auto* handle = static_cast<Handle*>(data);
  reportReleased(env, HandleTable::instance().release(*handle));
  delete handle;
}

void releaseBatch(node_api_basic_env, void* data, void*) {
  auto* batch = static_cast<Batch*>(data);
  HandleTable::instance().releaseAll(batch->handles);
  delete batch;
}

}  // namespace

napi_value tensorInfo(napi_env env, napi_callback_info info) {
  return guarded(env, "tensor", [&]() -> napi_value {
    napi_value argv[1], list, value;
    arguments(env, info, argv);
    const at::Tensor tensor = tensorArgument(env, argv[0]);
    check(napi_create_array_with_length(env, 3 + tensor.dim(), &list));
    check(napi_set_element(env, list, 0, text(env, dtypeName(tensor.scalar_type()))));
    check(napi_set_element(env, list, 1, text(env, tensor.device().str().c_str())));
    check(napi_get_boolean(env, tensor.requires_grad(), &value));
    check(napi_set_element(env, list, 2, value));
    for (int64_t i = 0; i < tensor.dim(); ++i) {
      check(napi_create_int64(env, tensor.size(i), &value));
      check(napi_set_element(env, list, static_cast<uint32_t>(3 + i), value));
    }
    return list;
  });
}

napi_value tensorItem(napi_env env, napi_callback_info info) {
  return guarded(env, "item", [&]() -> napi_value {
    napi_value argv[1];
    arguments(env, info, argv);
    return fromIValue(env, tensorArgument(env, argv[0]).item());
  });
}

napi_value fromTypedArray(napi_env env, napi_callback_info info) {
  return guarded(env, "tensor", [&]() -> napi_value {
    napi_value argv[3];
    arguments(env, info, argv);
    const c10::ScalarType dtype = dtypeFromName(stringOf(env, argv[1]));
    const std::vector<int64_t> shape = intsOf(env, argv[2]);
    // Only now: reading the shape may run getters, and those may detach the array's memory.
    void* data = nullptr;
    size_t length = 0;
    napi_typedarray_type type;
    if (napi_get_typedarray_info(env, argv[0], &type, &length, &data, nullptr, nullptr) != napi_ok)
      throw CallError("ERR_ARGUMENT", "a typed array is expected");
    static const size_t kSizes[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
    const size_t bytes = length * (static_cast<size_t>(type) < std::size(kSizes) ? kSizes[type] : 2);
    int64_t count = 1, needed = 0;
    for (const int64_t extent : shape) {
      if (extent < 0) throw CallError("ERR_SHAPE", "negative extent in shape");
      if (__builtin_mul_overflow(count, extent, &count)) throw CallError("ERR_SHAPE", "shape is too large");
    }
    if (__builtin_mul_overflow(count, static_cast<int64_t>(c10::elementSize(dtype)), &needed) ||
        static_cast<size_t>(needed) != bytes)
      throw CallError("ERR_SHAPE", "shape holds " + std::to_string(count) + " values of " + dtypeName(dtype) +
                                       ", the array has " + std::to_string(bytes) + " bytes");
    at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(dtype));
    if (bytes > 0) std::memcpy(tensor.mutable_data_ptr(), data, bytes);
    return newHandle(env, std::move(tensor));
  });
}

napi_value toArrayBuffer(napi_env env, napi_callback_info info) {
  return guarded(env, "toTypedArray", [&]() -> napi_value {
    napi_value argv[1], buffer;
    arguments(env, info, argv);
    const at::Tensor tensor = hostContiguous(tensorArgument(env, argv[0]));
    void* data = nullptr;
    if (!newArrayBuffer(env, tensor.nbytes(), &data, &buffer))
      throw CallError("ERR_OUT_OF_MEMORY",
                      "no ArrayBuffer of " + std::to_string(tensor.nbytes()) + " bytes can be made");
    if (tensor.nbytes() > 0) std::memcpy(data, tensor.const_data_ptr(), tensor.nbytes());
    return buffer;
  });
}

napi_value shareArrayBuffer(napi_env env, napi_callback_info info) {
  return guarded(env, "asTypedArray", [&]() -> napi_value {
    napi_value argv[1], buffer;
    arguments(env, info, argv);
    const at::Tensor tensor = tensorArgument(env, argv[0]);
    if (!tensor.device().is_cpu() || tensor.layout() != c10::kStrided || !tensor.is_contiguous() || tensor.is_conj() ||
        tensor.is_neg() || tensor._is_zerotensor())
      throw CallError("ERR_DEVICE", "only a contiguous CPU tensor can share its memory");
    auto owner = std::make_unique<at::Tensor>(tensor.detach());
    void* data = owner->mutable_data_ptr();
    // Growing would move the memory away from under the array.
    owner->storage().unsafeGetStorageImpl()->set_resizable(false);
    // Node's own headers and those of node-api-headers disagree on the type of the first parameter.
    const auto release = [](auto*, void*, void* hint) { delete static_cast<at::Tensor*>(hint); };
    if (napi_create_external_arraybuffer(env, data, owner->nbytes(), release, owner.get(), &buffer) != napi_ok)
      throw CallError("ERR_NOT_IMPLEMENTED", "this runtime does not allow external ArrayBuffers");
    owner.release();
    return buffer;
  });
}

napi_value dispose(napi_env env, napi_callback_info info) {
  return guarded(env, "dispose", [&]() -> napi_value {
    napi_value argv[1], result;
    arguments(env, info, argv);
    const Handle handle = handleOf(env, argv[0]);
    const HandleTable::Released released = HandleTable::instance().release(handle);
    reportReleased(env, released);
    EnvData::of(env)->unwatched.erase(handle);
    check(napi_get_boolean(env, released.alive, &result));
    return result;
  });
}

napi_value isAlive(napi_env env, napi_callback_info info) {
  return guarded(env, "isDisposed", [&]() -> napi_value {
    napi_value argv[1], result;
    arguments(env, info, argv);
    check(napi_get_boolean(env, HandleTable::instance().alive(handleOf(env, argv[0])), &result));
    return result;
  });
}

napi_value liveTensors(napi_env env, napi_callback_info) {
  return guarded(env, "liveTensors", [&]() -> napi_value {
    napi_value result;
    check(napi_create_int64(env, static_cast<int64_t>(HandleTable::instance().live()), &result));
    return result;
  });
}

napi_value alias(napi_env env, napi_callback_info info) {
  return guarded(env, "alias", [&]() -> napi_value {
    napi_value argv[1], result;
    arguments(env, info, argv);
    const Handle handle = HandleTable::instance().insert(tensorArgument(env, argv[0]));
    check(napi_create_double(env, static_cast<double>(handle), &result));
    return result;
  });
}

napi_value track(napi_env env, napi_callback_info info) {
  return guarded(env, "track", [&]() -> napi_value {
    napi_value argv[2];
    arguments(env, info, argv);
    const Handle handle = handleOf(env, argv[1]);
    const at::Tensor tensor = HandleTable::instance().get(handle);
    // A view has no memory of its own to report.
    const int64_t bytes =
        tensor.has_storage() && !tensor.is_view() ? static_cast<int64_t>(tensor.storage().nbytes()) : 0;
    auto owned = std::make_unique<Handle>(handle);
    check(napi_wrap(env, argv[0], owned.get(), releaseTracked, nullptr, nullptr));
    owned.release();
    EnvData::of(env)->unwatched.erase(handle);
    HandleTable::instance().setReported(handle, bytes);
    int64_t total;
    if (bytes > 0) napi_adjust_external_memory(env, bytes, &total);
    return nullptr;
  });
}

napi_value openBatch(napi_env env, napi_callback_info) {
  return guarded(env, "openBatch", [&]() -> napi_value {
    napi_value object;
    check(napi_create_object(env, &object));
    auto batch = std::make_unique<Batch>();
    check(napi_wrap(env, object, batch.get(), releaseBatch, nullptr, nullptr));
    EnvData::of(env)->use(batch.release());
    return object;
  });
}

napi_value beginScope(napi_env env, napi_callback_info) {
  return guarded(env, "scope", [&]() -> napi_value {
    EnvData* data = EnvData::of(env);
    data->scopes.emplace_back();
    napi_value depth;
    check(napi_create_uint32(env, static_cast<uint32_t>(data->scopes.size()), &depth));
    return depth;
  });
}

napi_value endScope(napi_env env, napi_callback_info info) {
  return guarded(env, "scope", [&]() -> napi_value {
    napi_value argv[2];
    arguments(env, info, argv);
    EnvData* data = EnvData::of(env);
    if (data->scopes.empty() || static_cast<int64_t>(data->scopes.size()) != intOf(env, argv[0]))
      throw CallError("ERR_SCOPE", "scopes must end in the reverse order of their beginning");
    std::vector<Handle> made = std::move(data->scopes.back());
    data->scopes.pop_back();
    std::unordered_set<Handle> kept;
    try {
      uint32_t length = 0;
      check(napi_get_array_length(env, argv[1], &length));
      for (uint32_t i = 0; i < length; ++i) {
        napi_value element;
        check(napi_get_element(env, argv[1], i, &element));
        kept.insert(handleOf(env, element));
      }
    } catch (...) {
      HandleTable::instance().releaseAll(made);
      throw;
    }
    if (kept.empty()) {
      HandleTable::instance().releaseAll(made);
      return nullptr;
    }
    for (const Handle handle : made) {
      if (kept.count(handle) == 0)
        HandleTable::instance().release(handle);
      else if (!data->scopes.empty())
        data->scopes.back().push_back(handle);
      else
        data->unwatched.insert(handle);
    }
    return nullptr;
  });
}

}  // namespace srum

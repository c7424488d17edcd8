// What the addon keeps per JavaScript environment (main thread or worker).
#pragma once
#include <node_api.h>

#include <vector>

#include "handles.h"

namespace srum {

// Small tensors made outside scopes, watched by the garbage collector as one: the JavaScript objects of a batch all
// hold the object that owns it, and its handles are released when none of them is left. One finalizer serves the whole
// batch.
struct Batch {
  std::vector<Handle> handles;
};

struct EnvData {
  napi_ref errorClass = nullptr;
  // Open scopes, innermost last; each lists the handles made inside it.
  std::vector<std::vector<Handle>> scopes;
  // Where small tensors go while no scope is open; owned by its JavaScript object.
  Batch* batch = nullptr;

  static EnvData* of(napi_env env) {
    void* data = nullptr;
    napi_get_instance_data(env, &data);
    return static_cast<EnvData*>(data);
  }
};

}  // namespace srum

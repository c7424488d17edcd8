// What the addon keeps per JavaScript environment (main thread or worker).
#pragma once
#include <node_api.h>

#include <vector>

#include "handles.h"

namespace srum {

struct EnvData {
  napi_ref errorClass = nullptr;
  // Open scopes, innermost last; each lists the handles made inside it.
  std::vector<std::vector<Handle>> scopes;

  static EnvData* of(napi_env env) {
    void* data = nullptr;
    napi_get_instance_data(env, &data);
    return static_cast<EnvData*>(data);
  }
};

}  // namespace srum

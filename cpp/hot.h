// Operators called so often that the boxed dispatcher path is worth avoiding: bound to their C++ signatures at compile
// time.
#pragma once
#include <node_api.h>

namespace srum {

// An object {"add.Tensor": function, ...} of direct bindings.
napi_value hotOperators(napi_env env, napi_callback_info info);

}  // namespace srum

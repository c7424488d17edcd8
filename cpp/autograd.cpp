#include "autograd.h"

#include <ATen/ThreadLocalState.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <memory>
#include <optional>
#include <vector>

#include "convert.h"
#include "errors.h"

namespace srum {
namespace {

using TensorList = std::vector<at::Tensor>;

bool flag(napi_env env, napi_value value) {
  bool result = false;
  check(napi_get_value_bool(env, value, &result));
  return result;
}

// An array of handles; null entries become undefined tensors (gradient "one" of a scalar output).
TensorList tensorList(napi_env env, napi_value value) {
  TensorList list;
  if (isNullish(env, value)) return list;
  uint32_t length;
  check(napi_get_array_length(env, value, &length));
  for (uint32_t i = 0; i < length; ++i) {
    napi_value element;
    check(napi_get_element(env, value, i, &element));
    list.push_back(isNullish(env, element) ? at::Tensor() : tensorArgument(env, element));
  }
  return list;
}

struct AsyncBackward {
  TensorList outputs, gradients;
  bool retain = false, create = false;
  at::ThreadLocalState state;
  std::optional<ErrorText> error;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
};

void executeBackward(napi_env, void* data) {
  auto* task = static_cast<AsyncBackward*>(data);
  try {
    at::ThreadLocalStateGuard guard(task->state);
    torch::autograd::backward(task->outputs, task->gradients, task->retain, task->create);
  } catch (...) {
    task->error = describeCurrentException("backward");
  }
}

void completeBackward(napi_env env, napi_status, void* data) {
  std::unique_ptr<AsyncBackward> task(static_cast<AsyncBackward*>(data));
  napi_value undefined;
  napi_get_undefined(env, &undefined);
  if (task->error)
    napi_reject_deferred(env, task->deferred, makeError(env, *task->error));
  else
    napi_resolve_deferred(env, task->deferred, undefined);
  napi_delete_async_work(env, task->work);
}

// Guards cannot cross the JavaScript boundary on the C++ stack, so they wait here.
thread_local std::vector<std::unique_ptr<c10::InferenceMode>> inferenceGuards;

}  // namespace

napi_value backward(napi_env env, napi_callback_info info) {
  return guarded(env, "backward", [&]() -> napi_value {
    napi_value argv[4];
    arguments(env, info, argv);
    torch::autograd::backward(tensorList(env, argv[0]), tensorList(env, argv[1]), flag(env, argv[2]),
                              flag(env, argv[3]));
    return nullptr;
  });
}

napi_value backwardAsync(napi_env env, napi_callback_info info) {
  return guarded(env, "backwardAsync", [&]() -> napi_value {
    napi_value argv[4], promise, name;
    arguments(env, info, argv);
    auto task = std::make_unique<AsyncBackward>();
    task->outputs = tensorList(env, argv[0]);
    task->gradients = tensorList(env, argv[1]);
    task->retain = flag(env, argv[2]);
    task->create = flag(env, argv[3]);
    check(napi_create_string_utf8(env, "backward", NAPI_AUTO_LENGTH, &name));
    check(napi_create_async_work(env, nullptr, name, executeBackward, completeBackward, task.get(), &task->work));
    check(napi_create_promise(env, &task->deferred, &promise));
    check(napi_queue_async_work(env, task->work));
    task.release();
    return promise;
  });
}

napi_value gradients(napi_env env, napi_callback_info info) {
  return guarded(env, "grad", [&]() -> napi_value {
    napi_value argv[6], result;
    arguments(env, info, argv);
    const bool retain = flag(env, argv[3]);
    const TensorList grads =
        torch::autograd::grad(tensorList(env, argv[0]), tensorList(env, argv[1]), tensorList(env, argv[2]), retain,
                              flag(env, argv[4]), flag(env, argv[5]));
    check(napi_create_array_with_length(env, grads.size(), &result));
    for (size_t i = 0; i < grads.size(); ++i)
      check(napi_set_element(env, result, static_cast<uint32_t>(i), newHandle(env, grads[i])));
    return result;
  });
}

napi_value getGrad(napi_env env, napi_callback_info info) {
  return guarded(env, "grad", [&]() -> napi_value {
    napi_value argv[1];
    arguments(env, info, argv);
    return newHandle(env, tensorArgument(env, argv[0]).grad());
  });
}

napi_value setGrad(napi_env env, napi_callback_info info) {
  return guarded(env, "grad", [&]() -> napi_value {
    napi_value argv[2];
    arguments(env, info, argv);
    at::Tensor tensor = tensorArgument(env, argv[0]);
    if (isNullish(env, argv[1])) {
      tensor.mutable_grad() = at::Tensor();
      return nullptr;
    }
    const at::Tensor gradient = tensorArgument(env, argv[1]);
    if (gradient.sizes() != tensor.sizes()) throw CallError("ERR_SHAPE", "a gradient has the shape of its tensor");
    if (gradient.scalar_type() != tensor.scalar_type())
      throw CallError("ERR_DTYPE", "a gradient has the dtype of its tensor");
    if (gradient.device() != tensor.device())
      throw CallError("ERR_DEVICE", "a gradient lies on the device of its tensor");
    tensor.mutable_grad() = gradient;
    return nullptr;
  });
}

napi_value setRequiresGrad(napi_env env, napi_callback_info info) {
  return guarded(env, "requiresGrad_", [&]() -> napi_value {
    napi_value argv[2];
    arguments(env, info, argv);
    tensorArgument(env, argv[0]).requires_grad_(flag(env, argv[1]));
    return nullptr;
  });
}

napi_value setGradEnabled(napi_env env, napi_callback_info info) {
  return guarded(env, "noGrad", [&]() -> napi_value {
    napi_value argv[1], previous;
    arguments(env, info, argv);
    check(napi_get_boolean(env, at::GradMode::is_enabled(), &previous));
    at::GradMode::set_enabled(flag(env, argv[0]));
    return previous;
  });
}

napi_value pushInferenceMode(napi_env env, napi_callback_info) {
  return guarded(env, "inferenceMode", [&]() -> napi_value {
    inferenceGuards.push_back(std::make_unique<c10::InferenceMode>(true));
    return nullptr;
  });
}

napi_value popInferenceMode(napi_env env, napi_callback_info) {
  return guarded(env, "inferenceMode", [&]() -> napi_value {
    if (inferenceGuards.empty()) throw CallError("ERR_ARGUMENT", "no inference mode is open");
    inferenceGuards.pop_back();
    return nullptr;
  });
}

}  // namespace srum

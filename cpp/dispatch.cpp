#include "dispatch.h"

#include <ATen/ThreadLocalState.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "convert.h"
#include "errors.h"
#include "guards.h"
#include "refusals.h"

namespace srum {
namespace {

constexpr size_t kMaxArguments = 64;
// Node-API fills unused places with undefined, so few places are offered at first.
constexpr size_t kUsualArguments = 8;

struct Plan {
  explicit Plan(c10::OperatorHandle op_) : op(std::move(op_)) {}
  c10::OperatorHandle op;
  std::string name;
  std::vector<Param> params;
  // In-place operators return the tensor they were given: the caller has it already, so no second handle is made.
  bool returnsFirstArgument = false;
  size_t returnCount = 0;
  std::optional<Guards> guards;
};

std::shared_ptr<Plan> makePlan(const c10::OperatorHandle& op) {
  auto plan = std::make_shared<Plan>(op);
  const c10::FunctionSchema& schema = op.schema();
  plan->name = schema.overload_name().empty() ? schema.name() : schema.name() + "." + schema.overload_name();
  for (const c10::Argument& argument : schema.arguments()) plan->params.push_back(paramOf(argument));
  plan->returnCount = schema.returns().size();
  plan->guards.emplace(schema.name(), plan->params);
  if (schema.returns().size() == 1 && !plan->params.empty() && plan->params[0].isWrite &&
      plan->params[0].kind == Kind::Tensor) {
    const auto* alias = schema.returns()[0].alias_info();
    plan->returnsFirstArgument = alias != nullptr && alias->isWrite();
  }
  if (plan->params.size() > kMaxArguments) throw CallError("ERR_NOT_IMPLEMENTED", "too many parameters");
  return plan;
}

// Plans live as long as the process: bound functions keep raw pointers to them.
Plan* planFor(const std::string& name, const std::string& overload) {
  static std::mutex mutex;
  static auto* plans = new std::unordered_map<std::string, std::shared_ptr<Plan>>();
  std::lock_guard<std::mutex> lock(mutex);
  auto& plan = (*plans)[name + "." + overload];
  if (!plan) {
    if (const char* reason = refusalOf(name)) throw CallError("ERR_NOT_IMPLEMENTED", name + ": " + reason);
    const auto op = c10::Dispatcher::singleton().findSchema({name, overload});
    if (!op.has_value())
      throw CallError("ERR_NOT_IMPLEMENTED", "this LibTorch has no operator " + name + "." + overload);
    plan = makePlan(*op);
  }
  return plan.get();
}

void pushArguments(napi_env env, const Plan& plan, size_t argc, const napi_value* argv, torch::jit::Stack& stack) {
  if (argc > plan.params.size())
    throw CallError("ERR_ARGUMENT",
                    "takes " + std::to_string(plan.params.size()) + " arguments, found " + std::to_string(argc));
  stack.reserve(plan.params.size());
  for (size_t i = 0; i < plan.params.size(); ++i) {
    const Param& param = plan.params[i];
    if (i < argc) {
      stack.push_back(toIValue(env, argv[i], param));
    } else if (param.hasDefault) {
      stack.push_back(param.defaultValue);
    } else if (param.optional) {
      stack.emplace_back();
    } else {
      throw CallError("ERR_ARGUMENT", "argument '" + param.name + "' is missing");
    }
  }
}

napi_value result(napi_env env, const Plan& plan, const torch::jit::Stack& stack) {
  if (plan.returnsFirstArgument || stack.empty()) return nullptr;
  if (stack.size() == 1) return fromIValue(env, stack[0]);
  napi_value list;
  check(napi_create_array_with_length(env, stack.size(), &list));
  for (size_t i = 0; i < stack.size(); ++i)
    check(napi_set_element(env, list, static_cast<uint32_t>(i), fromIValue(env, stack[i])));
  return list;
}

// "aten::add.Tensor(self float32[2,3] cpu, other float32[4] cpu, alpha 1)"
std::string context(const Plan& plan, const torch::jit::Stack& arguments) {
  std::string text = plan.name + "(";
  for (size_t i = 0; i < arguments.size() && i < plan.params.size(); ++i)
    text += (i ? ", " : "") + plan.params[i].name + " " + describe(arguments[i]);
  return text + ")";
}

std::string contextOfCall(napi_env env, const Plan& plan, size_t argc, const napi_value* argv) {
  // Only on failure: the arguments are converted again, since the call consumed the first conversion.
  torch::jit::Stack stack;
  try {
    pushArguments(env, plan, argc, argv, stack);
  } catch (...) {
    return plan.name;
  }
  return context(plan, stack);
}

void throwWithContext(napi_env env, const Plan& plan, size_t argc, const napi_value* argv) {
  const auto error = std::current_exception();
  const std::string where = contextOfCall(env, plan, argc, argv);
  try {
    std::rethrow_exception(error);
  } catch (...) {
    throwCurrentException(env, where);
  }
}

napi_value call(napi_env env, napi_callback_info info) {
  size_t argc = kUsualArguments;
  napi_value argv[kMaxArguments];
  void* data = nullptr;
  if (napi_get_cb_info(env, info, &argc, argv, nullptr, &data) != napi_ok) return nullptr;
  if (argc > kUsualArguments) {
    argc = kMaxArguments;
    if (napi_get_cb_info(env, info, &argc, argv, nullptr, &data) != napi_ok) return nullptr;
  }
  const Plan& plan = *static_cast<Plan*>(data);
  argc = std::min(argc, kMaxArguments);
  try {
    torch::jit::Stack stack;
    pushArguments(env, plan, argc, argv, stack);
    plan.guards->before(plan.params, stack);
    plan.op.callBoxed(stack);
    plan.guards->after(stack);
    return result(env, plan, stack);
  } catch (...) {
    throwWithContext(env, plan, argc, argv);
    return nullptr;
  }
}

struct AsyncCall {
  const Plan* plan = nullptr;
  torch::jit::Stack stack;
  at::ThreadLocalState state;  // grad mode and the like, as they are where the call is made
  std::optional<ErrorText> error;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
};

void executeAsync(napi_env, void* data) {
  auto* task = static_cast<AsyncCall*>(data);
  std::string where = task->plan->name;
  try {
    where = context(*task->plan, task->stack);
    at::ThreadLocalStateGuard guard(task->state);
    task->plan->op.callBoxed(task->stack);
    task->plan->guards->after(task->stack);
  } catch (...) {
    task->error = describeCurrentException(where);
  }
}

void completeAsync(napi_env env, napi_status status, void* data) {
  std::unique_ptr<AsyncCall> task(static_cast<AsyncCall*>(data));
  napi_value value = nullptr;
  try {
    if (status != napi_ok) throw CallError("ERR_TORCH", "the call was cancelled");
    if (!task->error) {
      value = result(env, *task->plan, task->stack);
      if (value == nullptr) napi_get_undefined(env, &value);
    }
  } catch (...) {
    task->error = describeCurrentException(task->plan->name);
  }
  if (task->error)
    napi_reject_deferred(env, task->deferred, makeError(env, *task->error));
  else
    napi_resolve_deferred(env, task->deferred, value);
  napi_delete_async_work(env, task->work);
}

napi_value callAsync(napi_env env, napi_callback_info info) {
  return guarded(env, "async call", [&]() -> napi_value {
    size_t argc = kMaxArguments;
    napi_value argv[kMaxArguments];
    void* data = nullptr;
    check(napi_get_cb_info(env, info, &argc, argv, nullptr, &data));
    auto task = std::make_unique<AsyncCall>();
    task->plan = static_cast<Plan*>(data);
    pushArguments(env, *task->plan, std::min(argc, kMaxArguments), argv, task->stack);
    task->plan->guards->before(task->plan->params, task->stack);
    napi_value promise, name;
    check(napi_create_string_utf8(env, task->plan->name.c_str(), NAPI_AUTO_LENGTH, &name));
    check(napi_create_async_work(env, nullptr, name, executeAsync, completeAsync, task.get(), &task->work));
    check(napi_create_promise(env, &task->deferred, &promise));
    check(napi_queue_async_work(env, task->work));
    task.release();
    return promise;
  });
}

napi_value bind(napi_env env, napi_callback_info info, napi_callback callback) {
  return guarded(env, "bind", [&]() -> napi_value {
    size_t argc = 2;
    napi_value argv[2], function;
    check(napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr));
    Plan* plan = planFor(stringOf(env, argv[0]), stringOf(env, argv[1]));
    check(napi_create_function(env, plan->name.c_str(), plan->name.size(), callback, plan, &function));
    return function;
  });
}

void setString(napi_env env, napi_value object, const char* key, const std::string& text) {
  napi_value value;
  check(napi_create_string_utf8(env, text.data(), text.size(), &value));
  check(napi_set_named_property(env, object, key, value));
}

void setBool(napi_env env, napi_value object, const char* key, bool flag) {
  napi_value value;
  check(napi_get_boolean(env, flag, &value));
  check(napi_set_named_property(env, object, key, value));
}

napi_value describeSchema(napi_env env, const c10::OperatorHandle& op) {
  const std::shared_ptr<Plan> plan = makePlan(op);
  napi_value object, params, returns;
  check(napi_create_object(env, &object));
  setString(env, object, "overload", op.schema().overload_name());
  setBool(env, object, "returnsFirstArgument", plan->returnsFirstArgument);
  check(napi_create_array_with_length(env, plan->params.size(), &params));
  for (size_t i = 0; i < plan->params.size(); ++i) {
    const Param& param = plan->params[i];
    napi_value entry, length;
    check(napi_create_object(env, &entry));
    setString(env, entry, "name", param.name);
    setString(env, entry, "kind", kindName(param.kind));
    setBool(env, entry, "optional", param.optional);
    setBool(env, entry, "keywordOnly", param.keywordOnly);
    setBool(env, entry, "hasDefault", param.hasDefault);
    setString(env, entry, "defaultText", param.defaultText);
    check(napi_create_int32(env, param.fixedLength, &length));
    check(napi_set_named_property(env, entry, "fixedLength", length));
    check(napi_set_element(env, params, static_cast<uint32_t>(i), entry));
  }
  check(napi_set_named_property(env, object, "params", params));
  const auto& schemaReturns = op.schema().returns();
  check(napi_create_array_with_length(env, schemaReturns.size(), &returns));
  for (size_t i = 0; i < schemaReturns.size(); ++i) {
    napi_value kind;
    check(napi_create_string_utf8(env, kindName(paramOf(schemaReturns[i]).kind), NAPI_AUTO_LENGTH, &kind));
    check(napi_set_element(env, returns, static_cast<uint32_t>(i), kind));
  }
  check(napi_set_named_property(env, object, "returns", returns));
  return object;
}

}  // namespace

void throwWithContext(napi_env env, const char* name, const char* overload, size_t argc, const napi_value* argv) {
  throwWithContext(env, *planFor(name, overload), argc, argv);
}

napi_value bindOperator(napi_env env, napi_callback_info info) { return bind(env, info, call); }
napi_value bindAsync(napi_env env, napi_callback_info info) { return bind(env, info, callAsync); }

napi_value listOperators(napi_env env, napi_callback_info) {
  return guarded(env, "listOperators", [&]() -> napi_value {
    napi_value list;
    check(napi_create_array(env, &list));
    std::vector<std::string> names;
    for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) names.push_back(name.name);
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    for (size_t i = 0; i < names.size(); ++i) {
      napi_value text;
      check(napi_create_string_utf8(env, names[i].data(), names[i].size(), &text));
      check(napi_set_element(env, list, static_cast<uint32_t>(i), text));
    }
    return list;
  });
}

napi_value schemasOf(napi_env env, napi_callback_info info) {
  return guarded(env, "schemasOf", [&]() -> napi_value {
    // Overloads by operator name, collected once: the dispatcher can only be asked for all names at a time.
    static std::mutex mutex;
    static auto* byName = new std::unordered_map<std::string, std::vector<c10::OperatorName>>();
    size_t argc = 1;
    napi_value argv[1], list;
    check(napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr));
    const std::string name = stringOf(env, argv[0]);
    std::vector<c10::OperatorName> overloads;
    {
      std::lock_guard<std::mutex> lock(mutex);
      if (byName->empty())
        for (const c10::OperatorName& op : c10::Dispatcher::singleton().getAllOpNames())
          (*byName)[op.name].push_back(op);
      const auto found = byName->find(name);
      if (found != byName->end()) overloads = found->second;
    }
    std::sort(overloads.begin(), overloads.end(),
              [](const auto& a, const auto& b) { return a.overload_name < b.overload_name; });
    check(napi_create_array(env, &list));
    uint32_t count = 0;
    for (const c10::OperatorName& overload : overloads) {
      const auto op = c10::Dispatcher::singleton().findSchema(overload);
      if (op.has_value()) check(napi_set_element(env, list, count++, describeSchema(env, *op)));
    }
    return list;
  });
}

}  // namespace srum

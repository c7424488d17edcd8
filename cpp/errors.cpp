#include "errors.h"

#include <c10/util/Exception.h>

#include <new>

#include "env.h"

namespace srum {
namespace {

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// LibTorch has few exception types, so the family of a fault is read from its wording.
std::string classify(const std::string& m) {
  if (contains(m, "out of memory") || contains(m, "can't allocate memory") || contains(m, "not enough memory"))
    return "ERR_OUT_OF_MEMORY";
  if (contains(m, "not implemented for '")) return "ERR_DTYPE";
  if (contains(m, "backend. This could be because") || contains(m, "not linked with support for")) return "ERR_DEVICE";
  if (contains(m, "Could not run '") || contains(m, "not supported") || contains(m, "not implemented"))
    return "ERR_NOT_IMPLEMENTED";
  if (contains(m, "differentiated")) return "ERR_AUTOGRAD";
  if (contains(m, "same device") || contains(m, "CUDA") || contains(m, "device type") ||
      contains(m, "Cannot copy out of meta"))
    return "ERR_DEVICE";
  if (contains(m, "same dtype") || contains(m, "scalar type") || contains(m, "dtype") || contains(m, "can't be cast"))
    return "ERR_DTYPE";
  if (contains(m, "out of range") || contains(m, "out of bounds")) return "ERR_INDEX";
  if (contains(m, "size") || contains(m, "shape") || contains(m, "dimension") || contains(m, "must match") ||
      contains(m, "expand"))
    return "ERR_SHAPE";
  if (contains(m, "grad")) return "ERR_AUTOGRAD";
  return "ERR_TORCH";
}

// LibTorch adds the whole dispatch table to some messages; one sentence says it all.
std::string firstSentences(const std::string& message) {
  const size_t end = message.find(" This could be because the operator doesn't exist");
  return end == std::string::npos ? message : message.substr(0, end);
}

}  // namespace

ErrorText describeCurrentException(const std::string& context) {
  const std::string prefix = context.empty() ? "" : context + ": ";
  try {
    throw;
  } catch (const CallError& e) {
    return {e.code, prefix + e.what()};
  } catch (const c10::OutOfMemoryError& e) {
    return {"ERR_OUT_OF_MEMORY", prefix + e.what_without_backtrace()};
  } catch (const c10::IndexError& e) {
    return {"ERR_INDEX", prefix + e.what_without_backtrace()};
  } catch (const c10::Error& e) {
    const std::string message = e.what_without_backtrace();
    return {classify(message), prefix + firstSentences(message)};
  } catch (const NapiFailure&) {
    return {"ERR_ARGUMENT", prefix + "wrong argument"};
  } catch (const std::bad_alloc&) {
    return {"ERR_OUT_OF_MEMORY", prefix + "out of memory"};
  } catch (const std::exception& e) {
    const std::string message = e.what();
    return {classify(message), prefix + message};
  } catch (...) {
    return {"ERR_TORCH", prefix + "unknown failure"};
  }
}

napi_value makeError(napi_env env, const ErrorText& text) {
  napi_value code, message, error = nullptr;
  napi_create_string_utf8(env, text.code.c_str(), text.code.size(), &code);
  napi_create_string_utf8(env, text.message.c_str(), text.message.size(), &message);
  EnvData* data = EnvData::of(env);
  if (data != nullptr && data->errorClass != nullptr) {
    napi_value cls, argv[2] = {code, message};
    if (napi_get_reference_value(env, data->errorClass, &cls) == napi_ok && cls != nullptr &&
        napi_new_instance(env, cls, 2, argv, &error) == napi_ok)
      return error;
  }
  napi_create_error(env, code, message, &error);
  return error;
}

void throwCurrentException(napi_env env, const std::string& context) {
  const ErrorText text = describeCurrentException(context);
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (pending) return;
  napi_throw(env, makeError(env, text));
}

napi_value setErrorClass(napi_env env, napi_callback_info info) {
  return guarded(env, "setErrorClass", [&]() -> napi_value {
    size_t argc = 1;
    napi_value argv[1];
    check(napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr));
    EnvData* data = EnvData::of(env);
    if (data->errorClass != nullptr) napi_delete_reference(env, data->errorClass);
    check(napi_create_reference(env, argv[0], 1, &data->errorClass));
    return nullptr;
  });
}

}  // namespace srum

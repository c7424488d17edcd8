// Translation of C++ failures into JavaScript errors. No exception leaves this addon untranslated.
#pragma once
#include <node_api.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace srum {

// A mistake of the caller found by the addon itself, with its stable code.
struct CallError : std::runtime_error {
  CallError(const char* code_, const std::string& message) : std::runtime_error(message), code(code_) {}
  const char* code;
};

// Node-API itself reported a failure; a JavaScript exception may already be pending.
struct NapiFailure : std::exception {};

inline void check(napi_status status) {
  if (status != napi_ok) throw NapiFailure();
}

struct ErrorText {
  std::string code;
  std::string message;
};

// Code and first line of the exception in flight; `context` names the operator and its arguments.
ErrorText describeCurrentException(const std::string& context);

// Makes the JavaScript error object for `text` (class TorchError once registered).
napi_value makeError(napi_env env, const ErrorText& text);

// Throws the exception in flight into JavaScript.
void throwCurrentException(napi_env env, const std::string& context);

// Registers the JavaScript class whose instances are thrown: new TorchError(code, message).
napi_value setErrorClass(napi_env env, napi_callback_info info);

// Runs `body`; whatever it throws becomes a JavaScript exception and undefined is returned.
template <typename Body>
napi_value guarded(napi_env env, const char* what, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (...) {
    throwCurrentException(env, what);
    return nullptr;
  }
}

}  // namespace srum

// Operators that are not offered to JavaScript, because no check of their arguments could make them safe.
#pragma once
#include <string>

namespace srum {

// Why the operator (qualified, without overload) is not offered; null when it is.
const char* refusalOf(const std::string& name);

}  // namespace srum

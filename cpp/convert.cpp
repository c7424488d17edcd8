#include "convert.h"

#include <ATen/core/Generator.h>
#include <c10/core/Device.h>
#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "env.h"
#include "errors.h"
#include "generators.h"

namespace srum {
namespace {

struct DtypeEntry {
  const char* name;
  c10::ScalarType type;
};
constexpr DtypeEntry kDtypes[] = {
    {"float32", c10::kFloat},
    {"float64", c10::kDouble},
    {"bfloat16", c10::kBFloat16},
    {"float16", c10::kHalf},
    {"int8", c10::kChar},
    {"int16", c10::kShort},
    {"int32", c10::kInt},
    {"int64", c10::kLong},
    {"uint8", c10::kByte},
    {"bool", c10::kBool},
    {"complex64", c10::kComplexFloat},
    {"complex128", c10::kComplexDouble},
};

const char* const kKindNames[] = {"Tensor",       "Tensor[]", "Tensor?[]", "int",        "int[]",
                                  "float",        "float[]",  "bool",      "bool[]",     "Scalar",
                                  "Scalar[]",     "str",      "str[]",     "ScalarType", "Layout",
                                  "MemoryFormat", "Device",   "Generator", "unsupported"};

Kind kindOfType(const c10::TypePtr& type) {
  using c10::TypeKind;
  switch (type->kind()) {
    case TypeKind::TensorType:
      return Kind::Tensor;
    case TypeKind::IntType:
    case TypeKind::SymIntType:
      return Kind::Int;
    case TypeKind::FloatType:
      return Kind::Double;
    case TypeKind::BoolType:
      return Kind::Bool;
    case TypeKind::NumberType:
      return Kind::Scalar;
    case TypeKind::StringType:
      return Kind::String;
    case TypeKind::ScalarTypeType:
      return Kind::ScalarType;
    case TypeKind::LayoutType:
      return Kind::Layout;
    case TypeKind::MemoryFormatType:
      return Kind::MemoryFormat;
    case TypeKind::DeviceObjType:
      return Kind::Device;
    case TypeKind::GeneratorType:
      return Kind::Generator;
    case TypeKind::ListType: {
      const auto element = type->castRaw<c10::ListType>()->getElementType();
      if (element->kind() == TypeKind::OptionalType)
        return element->castRaw<c10::OptionalType>()->getElementType()->kind() == TypeKind::TensorType
                   ? Kind::OptionalTensorList
                   : Kind::Unsupported;
      switch (kindOfType(element)) {
        case Kind::Tensor:
          return Kind::TensorList;
        case Kind::Int:
          return Kind::IntList;
        case Kind::Double:
          return Kind::DoubleList;
        case Kind::Bool:
          return Kind::BoolList;
        case Kind::Scalar:
          return Kind::ScalarList;
        case Kind::String:
          return Kind::StringList;
        default:
          return Kind::Unsupported;
      }
    }
    default:
      return Kind::Unsupported;
  }
}

[[noreturn]] void wrongType(const Param& param, const char* found) {
  throw CallError("ERR_ARGUMENT", "argument '" + param.name + "' must be " + kindName(param.kind) + ", found " + found);
}

const char* jsTypeName(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  switch (type) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return "boolean";
    case napi_number:
      return "number";
    case napi_string:
      return "string";
    case napi_bigint:
      return "bigint";
    case napi_function:
      return "function";
    case napi_symbol:
      return "symbol";
    default:
      return "object";
  }
}

int64_t intFrom(napi_env env, napi_value value, const Param& param) {
  napi_valuetype type;
  check(napi_typeof(env, value, &type));
  if (type == napi_bigint) {
    int64_t result;
    bool lossless;
    check(napi_get_value_bigint_int64(env, value, &result, &lossless));
    if (!lossless) wrongType(param, "a bigint beyond 64 bits");
    return result;
  }
  if (type != napi_number) wrongType(param, jsTypeName(env, value));
  double number;
  check(napi_get_value_double(env, value, &number));
  if (!(std::floor(number) == number) || std::fabs(number) > 9007199254740992.0)
    wrongType(param, "a number that is no safe integer");
  return static_cast<int64_t>(number);
}

double doubleFrom(napi_env env, napi_value value, const Param& param) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok) wrongType(param, jsTypeName(env, value));
  return number;
}

bool boolFrom(napi_env env, napi_value value, const Param& param) {
  bool flag;
  if (napi_get_value_bool(env, value, &flag) != napi_ok) wrongType(param, jsTypeName(env, value));
  return flag;
}

at::Scalar scalarFrom(napi_env env, napi_value value, const Param& param) {
  napi_valuetype type;
  check(napi_typeof(env, value, &type));
  if (type == napi_boolean) return boolFrom(env, value, param);
  if (type == napi_bigint) return intFrom(env, value, param);
  const double number = doubleFrom(env, value, param);
  // JavaScript has one number type: whole numbers act as integers, so that an int64 tensor times 2 stays int64.
  if (std::floor(number) == number && std::fabs(number) <= 9007199254740992.0 && !(number == 0 && std::signbit(number)))
    return static_cast<int64_t>(number);
  return number;
}

at::Tensor tensorFrom(napi_env env, napi_value value, const Param& param) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok) wrongType(param, jsTypeName(env, value));
  if (!(number >= 0 && number < 9007199254740992.0)) wrongType(param, "a number that names no tensor");
  return HandleTable::instance().get(static_cast<Handle>(number));
}

std::string stringFrom(napi_env env, napi_value value, const Param& param) {
  napi_valuetype type;
  check(napi_typeof(env, value, &type));
  if (type != napi_string) wrongType(param, jsTypeName(env, value));
  return stringOf(env, value);
}

template <typename Element>
c10::List<Element> listFrom(napi_env env, napi_value value, const Param& param,
                            Element (*convert)(napi_env, napi_value, const Param&)) {
  c10::List<Element> list;
  bool isArray = false;
  check(napi_is_array(env, value, &isArray));
  if (!isArray) {
    if (param.fixedLength == 0) wrongType(param, jsTypeName(env, value));
    list.push_back(convert(env, value, param));
    const Element only = list.get(0);
    for (int i = 1; i < param.fixedLength; ++i) list.push_back(only);
    return list;
  }
  uint32_t length;
  check(napi_get_array_length(env, value, &length));
  // An array may claim any length without having the elements.
  list.reserve(std::min<uint32_t>(length, 64));
  for (uint32_t i = 0; i < length; ++i) {
    napi_value element;
    check(napi_get_element(env, value, i, &element));
    list.push_back(convert(env, element, param));
  }
  return list;
}

c10::List<std::optional<at::Tensor>> optionalTensorsFrom(napi_env env, napi_value value, const Param& param) {
  c10::List<std::optional<at::Tensor>> list;
  bool isArray = false;
  check(napi_is_array(env, value, &isArray));
  if (!isArray) wrongType(param, jsTypeName(env, value));
  uint32_t length;
  check(napi_get_array_length(env, value, &length));
  for (uint32_t i = 0; i < length; ++i) {
    napi_value element;
    check(napi_get_element(env, value, i, &element));
    if (isNullish(env, element))
      list.push_back(std::nullopt);
    else
      list.push_back(tensorFrom(env, element, param));
  }
  return list;
}

int64_t layoutFrom(napi_env env, napi_value value, const Param& param) {
  const std::string name = stringFrom(env, value, param);
  if (name == "strided") return static_cast<int64_t>(c10::kStrided);
  if (name == "sparse_coo") return static_cast<int64_t>(c10::kSparse);
  if (name == "sparse_csr") return static_cast<int64_t>(c10::kSparseCsr);
  throw CallError("ERR_ARGUMENT", "unknown layout '" + name + "'");
}

int64_t memoryFormatFrom(napi_env env, napi_value value, const Param& param) {
  const std::string name = stringFrom(env, value, param);
  if (name == "contiguous") return static_cast<int64_t>(c10::MemoryFormat::Contiguous);
  if (name == "preserve") return static_cast<int64_t>(c10::MemoryFormat::Preserve);
  if (name == "channels_last") return static_cast<int64_t>(c10::MemoryFormat::ChannelsLast);
  if (name == "channels_last_3d") return static_cast<int64_t>(c10::MemoryFormat::ChannelsLast3d);
  throw CallError("ERR_ARGUMENT", "unknown memory format '" + name + "'");
}

napi_value fromInt(napi_env env, int64_t number) {
  napi_value result;
  if (number > 9007199254740991 || number < -9007199254740991)
    check(napi_create_bigint_int64(env, number, &result));
  else
    check(napi_create_int64(env, number, &result));
  return result;
}

}  // namespace

const char* kindName(Kind kind) { return kKindNames[static_cast<size_t>(kind)]; }

Param paramOf(const c10::Argument& argument) {
  Param param;
  param.name = argument.name();
  c10::TypePtr type = argument.real_type();
  if (type->kind() == c10::TypeKind::OptionalType) {
    param.optional = true;
    type = type->castRaw<c10::OptionalType>()->getElementType();
  }
  param.kind = kindOfType(type);
  param.keywordOnly = argument.kwarg_only();
  param.isWrite = argument.alias_info() != nullptr && argument.alias_info()->isWrite();
  param.fixedLength = argument.N().value_or(0);
  param.hasDefault = argument.default_value().has_value();
  if (param.hasDefault) {
    param.defaultValue = *argument.default_value();
    std::ostringstream text;
    text << param.defaultValue;
    param.defaultText = text.str();
  }
  param.typeText = argument.real_type()->repr_str();
  return param;
}

bool isNullish(napi_env env, napi_value value) {
  napi_valuetype type;
  check(napi_typeof(env, value, &type));
  return type == napi_undefined || type == napi_null;
}

Handle handleOf(napi_env env, napi_value value) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok || !(number >= 0 && number < 9007199254740992.0))
    throw CallError("ERR_ARGUMENT", "a tensor is expected");
  return static_cast<Handle>(number);
}

at::Tensor tensorArgument(napi_env env, napi_value value) { return HandleTable::instance().get(handleOf(env, value)); }

std::string stringOf(napi_env env, napi_value value) {
  size_t length = 0;
  check(napi_get_value_string_utf8(env, value, nullptr, 0, &length));
  std::string text(length, '\0');
  check(napi_get_value_string_utf8(env, value, text.data(), length + 1, &length));
  return text;
}

namespace {
// Stands in for a schema's parameter where a value is read without one.
const Param& unnamed(Kind kind) {
  static const auto* params = [] {
    auto* list = new std::vector<Param>(static_cast<size_t>(Kind::Unsupported) + 1);
    for (size_t i = 0; i < list->size(); ++i) {
      (*list)[i].name = "value";
      (*list)[i].kind = static_cast<Kind>(i);
    }
    return list;
  }();
  return (*params)[static_cast<size_t>(kind)];
}
}  // namespace

int64_t intOf(napi_env env, napi_value value) { return intFrom(env, value, unnamed(Kind::Int)); }
at::Scalar scalarOf(napi_env env, napi_value value) { return scalarFrom(env, value, unnamed(Kind::Scalar)); }

std::vector<int64_t> intsOf(napi_env env, napi_value value) {
  bool isArray = false;
  check(napi_is_array(env, value, &isArray));
  if (!isArray) throw CallError("ERR_ARGUMENT", "an array of integers is expected");
  uint32_t length;
  check(napi_get_array_length(env, value, &length));
  std::vector<int64_t> result;
  // An array may claim any length without having the elements.
  result.reserve(std::min<uint32_t>(length, 64));
  for (uint32_t i = 0; i < length; ++i) {
    napi_value element;
    check(napi_get_element(env, value, i, &element));
    result.push_back(intOf(env, element));
  }
  return result;
}

c10::ScalarType dtypeFromName(const std::string& name) {
  for (const auto& entry : kDtypes)
    if (name == entry.name) return entry.type;
  throw CallError("ERR_ARGUMENT", "unknown dtype '" + name + "'");
}

const char* dtypeName(c10::ScalarType dtype) {
  for (const auto& entry : kDtypes)
    if (dtype == entry.type) return entry.name;
  return c10::toString(dtype);
}

c10::IValue toIValue(napi_env env, napi_value value, const Param& param) {
  // The commonest case first: a tensor that is there needs no test of its type.
  double number;
  if (param.kind == Kind::Tensor && napi_get_value_double(env, value, &number) == napi_ok)
    return tensorFrom(env, value, param);
  if (isNullish(env, value)) {
    napi_valuetype type;
    check(napi_typeof(env, value, &type));
    if (type == napi_undefined && param.hasDefault) return param.defaultValue;
    if (param.optional) return c10::IValue();
    wrongType(param, type == napi_null ? "null" : "nothing");
  }
  switch (param.kind) {
    case Kind::Tensor:
      return tensorFrom(env, value, param);
    case Kind::TensorList:
      return listFrom<at::Tensor>(env, value, param, tensorFrom);
    case Kind::OptionalTensorList:
      return optionalTensorsFrom(env, value, param);
    case Kind::Int:
      return intFrom(env, value, param);
    case Kind::IntList:
      return listFrom<int64_t>(env, value, param, intFrom);
    case Kind::Double:
      return doubleFrom(env, value, param);
    case Kind::DoubleList:
      return listFrom<double>(env, value, param, doubleFrom);
    case Kind::Bool:
      return boolFrom(env, value, param);
    case Kind::BoolList:
      return listFrom<bool>(env, value, param, boolFrom);
    case Kind::Scalar:
      return scalarFrom(env, value, param);
    case Kind::ScalarList: {
      // A List<Scalar> has no C++ type of its own in IValue: it is a generic list of numbers.
      c10::impl::GenericList list(c10::NumberType::get());
      uint32_t length = 0;
      if (napi_get_array_length(env, value, &length) != napi_ok) wrongType(param, jsTypeName(env, value));
      for (uint32_t i = 0; i < length; ++i) {
        napi_value element;
        check(napi_get_element(env, value, i, &element));
        list.push_back(scalarFrom(env, element, param));
      }
      return list;
    }
    case Kind::String:
      return stringFrom(env, value, param);
    case Kind::StringList:
      return listFrom<std::string>(env, value, param, stringFrom);
    case Kind::ScalarType:
      return static_cast<int64_t>(dtypeFromName(stringFrom(env, value, param)));
    case Kind::Layout:
      return layoutFrom(env, value, param);
    case Kind::MemoryFormat:
      return memoryFormatFrom(env, value, param);
    case Kind::Device:
      return c10::Device(stringFrom(env, value, param));
    case Kind::Generator:
      return generatorFrom(env, value);
    case Kind::Unsupported:
      break;
  }
  throw CallError("ERR_NOT_IMPLEMENTED",
                  "argument '" + param.name + "' has type " + param.typeText + ", which has no JavaScript form");
}

napi_value newHandle(napi_env env, at::Tensor tensor) {
  napi_value result;
  if (!tensor.defined()) {
    check(napi_get_null(env, &result));
    return result;
  }
  const Handle handle = HandleTable::instance().insert(std::move(tensor));
  EnvData* data = EnvData::of(env);
  if (!data->scopes.empty())
    data->scopes.back().push_back(handle);
  else if ((handle & kLargeBit) != 0)
    data->unwatched.insert(handle);
  else if (data->batch != nullptr)
    data->batch->handles.push_back(handle);
  check(napi_create_double(env, static_cast<double>(handle), &result));
  return result;
}

napi_value fromIValue(napi_env env, const c10::IValue& value) {
  napi_value result = nullptr;
  if (value.isTensor()) return newHandle(env, value.toTensor());
  if (value.isNone()) {
    check(napi_get_null(env, &result));
  } else if (value.isBool()) {
    check(napi_get_boolean(env, value.toBool(), &result));
  } else if (value.isInt()) {
    return fromInt(env, value.toInt());
  } else if (value.isSymInt()) {
    return fromInt(env, value.toSymInt().guard_int(__FILE__, __LINE__));
  } else if (value.isDouble()) {
    check(napi_create_double(env, value.toDouble(), &result));
  } else if (value.isString()) {
    const std::string& text = value.toStringRef();
    check(napi_create_string_utf8(env, text.data(), text.size(), &result));
  } else if (value.isList() || value.isTuple()) {
    const auto elements = value.isTuple() ? value.toTupleRef().elements().vec() : value.toList().vec();
    check(napi_create_array_with_length(env, elements.size(), &result));
    for (size_t i = 0; i < elements.size(); ++i)
      check(napi_set_element(env, result, static_cast<uint32_t>(i), fromIValue(env, elements[i])));
  } else if (value.isScalar()) {
    const at::Scalar scalar = value.toScalar();
    if (scalar.isBoolean())
      check(napi_get_boolean(env, scalar.toBool(), &result));
    else if (scalar.isIntegral(false))
      return fromInt(env, scalar.toLong());
    else
      check(napi_create_double(env, scalar.toDouble(), &result));
  } else if (value.isDevice()) {
    const std::string text = value.toDevice().str();
    check(napi_create_string_utf8(env, text.data(), text.size(), &result));
  } else {
    throw CallError("ERR_NOT_IMPLEMENTED",
                    "the operator returns a " + value.tagKind() + ", which has no JavaScript form");
  }
  return result;
}

namespace {
std::string describeUnchecked(const c10::IValue& value) {
  std::ostringstream text;
  if (value.isTensor()) {
    const at::Tensor& t = value.toTensor();
    if (!t.defined()) return "undefined tensor";
    text << dtypeName(t.scalar_type()) << '[';
    for (int64_t i = 0; i < t.dim(); ++i) text << (i ? "," : "") << t.size(i);
    text << "] " << t.device().str();
  } else if (value.isList() && value.toListRef().size() > 8) {
    text << value.tagKind() << " of " << value.toListRef().size();
  } else if (value.isTensorList()) {
    text << '[';
    bool first = true;
    for (const at::Tensor& t : value.toTensorVector()) {
      text << (first ? "" : ", ") << describe(t);
      first = false;
    }
    text << ']';
  } else if (value.isInt() || value.isDouble() || value.isBool() || value.isNone() || value.isIntList() ||
             value.isString() || value.isDevice()) {
    text << value;
  } else {
    text << value.tagKind();
  }
  return text.str();
}
}  // namespace

std::string describe(const c10::IValue& value) {
  // Some kinds of tensors throw when asked for their sizes, and a description is wanted where an exception is being
  // handled already.
  try {
    return describeUnchecked(value);
  } catch (...) {
    return value.tagKind();
  }
}

}  // namespace srum

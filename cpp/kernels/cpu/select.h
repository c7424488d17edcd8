// Between tensors and the kernels of kernels.h.
#pragma once
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>

#include <string>

#include "kernels.h"

namespace srum::cpu {

// The kernels for this machine; ATEN_CPU_CAPABILITY limits them as it limits LibTorch's own.
inline const Kernels& selected() {
  static const Kernels& kernels = kernelsFor(at::get_cpu_capability().c_str());
  return kernels;
}

template <typename T>
struct Memory {
  static const T* read(const at::Tensor& t) { return t.const_data_ptr<T>(); }
  static T* write(const at::Tensor& t) { return t.mutable_data_ptr<T>(); }
};
template <>
struct Memory<Bf16> {
  static const Bf16* read(const at::Tensor& t) {
    return reinterpret_cast<const Bf16*>(t.const_data_ptr<at::BFloat16>());
  }
  static Bf16* write(const at::Tensor& t) { return reinterpret_cast<Bf16*>(t.mutable_data_ptr<at::BFloat16>()); }
};

}  // namespace srum::cpu

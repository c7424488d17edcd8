// The same source compiled for several instruction sets by target pragmas, so that no build file needs flags per file.
#include "kernels.h"

#include <cstring>

#define SRUM_LANES 4
namespace srum::cpu::generic {
#include "kernels.inc.h"
}
#undef SRUM_LANES

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define SRUM_LANES 8
namespace srum::cpu::avx2 {
#include "kernels.inc.h"
}
#undef SRUM_LANES
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx2,fma")
#endif
#define SRUM_LANES 16
namespace srum::cpu::avx512 {
#include "kernels.inc.h"
}
#undef SRUM_LANES
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

namespace srum::cpu {

const Kernels& kernelsFor(const char* limit) {
  static const Kernels plain = generic::kernels("generic");
#if defined(__x86_64__)
  static const bool hasAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  static const bool hasAvx512 = hasAvx2 && __builtin_cpu_supports("avx512f");
  if (hasAvx512 && std::strcmp(limit, "DEFAULT") != 0 && std::strcmp(limit, "AVX2") != 0) {
    static const Kernels wide = avx512::kernels("avx512");
    return wide;
  }
  if (hasAvx2 && std::strcmp(limit, "DEFAULT") != 0) {
    static const Kernels medium = avx2::kernels("avx2");
    return medium;
  }
#endif
  static_cast<void>(limit);
  return plain;
}

}  // namespace srum::cpu

// srum::rms_norm, srum::swiglu and srum::rope: chains of elementwise operators in one pass, with their gradients. On
// the CPU in float32 and bfloat16 own kernels run; anything else gets the chain, which also is what a second
// derivative is taken of. In bfloat16 results are rounded where the chain rounds; gradients only once, at the end.
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <string>
#include <vector>

#include "errors.h"
#include "kernels/cpu/select.h"

namespace srum {
namespace {

using at::Tensor;
using cpu::Bf16;
using cpu::Memory;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Numbers that a thread takes at a time at least.
constexpr int64_t kGrain = 16384;

// The combinations of types that have kernels.
enum class Types { Float, Half, Mixed, Other };

Types typesOf(const Tensor& x, const Tensor& weight) {
  if (!x.device().is_cpu() || !weight.device().is_cpu() || x.numel() == 0) return Types::Other;
  const at::ScalarType a = x.scalar_type(), b = weight.scalar_type();
  if (a == at::kFloat && b == at::kFloat) return Types::Float;
  if (a == at::kBFloat16 && b == at::kBFloat16) return Types::Half;
  if (a == at::kFloat && b == at::kBFloat16) return Types::Mixed;
  return Types::Other;
}

// Calls work.template operator()<X, W>(kernels) for the types of x and weight.
template <typename Work>
void withRowKernels(Types types, const Work& work) {
  const cpu::Kernels& kernels = cpu::selected();
  if (types == Types::Float)
    work.template operator()<float, float>(kernels.rows32);
  else if (types == Types::Half)
    work.template operator()<Bf16, Bf16>(kernels.rows16);
  else
    work.template operator()<float, Bf16>(kernels.rowsMixed);
}

Tensor resultLike(const Tensor& x, Types types) {
  return at::empty(x.sizes(), x.options().dtype(types == Types::Half ? at::kBFloat16 : at::kFloat));
}

int64_t rowGrain(int64_t width) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, width)); }

// Gradients of the chain with a graph of their own: a gradient of a gradient was asked for.
template <typename Chain>
variable_list chainGradients(const variable_list& inputs, const Tensor& gradient, const Chain& chain) {
  variable_list differentiable;
  for (const Tensor& input : inputs) {
    if (input.requires_grad()) differentiable.push_back(input);
  }
  const variable_list found = torch::autograd::grad({chain(inputs)}, differentiable, {gradient}, true, true);
  variable_list all;
  size_t next = 0;
  for (const Tensor& input : inputs) all.push_back(input.requires_grad() ? found[next++] : Tensor());
  return all;
}

// ---- RMS norm
// --------------------------------------------------------------------------------------------------------

Tensor rmsNormChain(const Tensor& x, const Tensor& weight, double eps) {
  return at::rms_norm(x, weight.sizes(), {}, eps).mul(weight);
}

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& weight, double eps) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Types types = typesOf(input, weight);
    const Tensor x = input.contiguous(), w = weight.contiguous(), y = resultLike(x, types);
    const int64_t width = w.size(0), rows = x.numel() / width;
    const Tensor factors = at::empty({rows}, x.options().dtype(at::kFloat));
    float* r = Memory<float>::write(factors);
    withRowKernels(types, [&]<typename X, typename W>(const cpu::RowKernels<X, W>& kernels) {
      using Y = typename cpu::RowKernels<X, W>::Y;
      const X* from = Memory<X>::read(x);
      const W* scale = Memory<W>::read(w);
      Y* to = Memory<Y>::write(y);
      at::parallel_for(0, rows, rowGrain(width), [&](int64_t begin, int64_t end) {
        kernels.rmsNorm(from + begin * width, scale, to + begin * width, r + begin, end - begin, width,
                        static_cast<float>(eps));
      });
    });
    ctx->save_for_backward({input, weight, factors});
    ctx->saved_data["eps"] = eps;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const variable_list saved = ctx->get_saved_variables();
    if (at::GradMode::is_enabled()) {
      const double eps = ctx->saved_data["eps"].toDouble();
      const auto chain = [eps](const variable_list& in) { return rmsNormChain(in[0], in[1], eps); };
      variable_list all = chainGradients({saved[0], saved[1]}, gradients[0], chain);
      all.emplace_back();
      return all;
    }
    at::AutoDispatchBelowADInplaceOrView guard;
    const Types types = typesOf(saved[0], saved[1]);
    const Tensor x = saved[0].contiguous(), w = saved[1].contiguous(), dy = gradients[0].contiguous();
    const Tensor dx = at::empty_like(x);
    const int64_t width = w.size(0), rows = x.numel() / width;
    // The weight's gradient is added up in blocks of fixed size, so that it does not depend on the threads.
    const int64_t block = std::max<int64_t>(rowGrain(width), (rows + 255) / 256), blocks = (rows + block - 1) / block;
    const Tensor partial = at::zeros({blocks, width}, x.options().dtype(at::kFloat));
    const float* r = Memory<float>::read(saved[2]);
    float* dw = Memory<float>::write(partial);
    withRowKernels(types, [&]<typename X, typename W>(const cpu::RowKernels<X, W>& kernels) {
      using Y = typename cpu::RowKernels<X, W>::Y;
      const X* from = Memory<X>::read(x);
      const W* scale = Memory<W>::read(w);
      const Y* gradient = Memory<Y>::read(dy);
      X* to = Memory<X>::write(dx);
      at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t first = i * block, at = first * width, count = std::min(block, rows - first);
          kernels.rmsNormBackward(from + at, scale, r + first, gradient + at, to + at, dw + i * width, count, width);
        }
      });
      for (int64_t i = 1; i < blocks; ++i) {
        for (int64_t c = 0; c < width; ++c) dw[c] += dw[i * width + c];
      }
    });
    return {dx, partial.select(0, 0).to(w.scalar_type()), Tensor()};
  }
};

Tensor rmsNorm(const Tensor& x, const Tensor& weight, double eps) {
  if (weight.dim() != 1 || x.dim() == 0 || x.size(-1) != weight.size(0))
    throw CallError("ERR_SHAPE", "weight has one dimension, as long as the last one of x");
  return typesOf(x, weight) == Types::Other ? rmsNormChain(x, weight, eps) : RmsNorm::apply(x, weight, eps);
}

// ---- Gate
// ------------------------------------------------------------------------------------------------------------

Tensor swigluChain(const Tensor& gate, const Tensor& up) { return at::silu(gate).mul(up); }

template <typename Work>
void withGateKernels(const Tensor& x, const Work& work) {
  if (x.scalar_type() == at::kFloat)
    work.template operator()<float>(cpu::selected().gate32);
  else
    work.template operator()<Bf16>(cpu::selected().gate16);
}

struct Swiglu : torch::autograd::Function<Swiglu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& gateInput, const Tensor& upInput) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Tensor gate = gateInput.contiguous(), up = upInput.contiguous(), y = at::empty_like(gate);
    withGateKernels(gate, [&]<typename T>(const cpu::GateKernels<T>& kernels) {
      const T *a = Memory<T>::read(gate), *b = Memory<T>::read(up);
      T* to = Memory<T>::write(y);
      at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
        kernels.swiglu(a + begin, b + begin, to + begin, end - begin);
      });
    });
    ctx->save_for_backward({gateInput, upInput});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const variable_list saved = ctx->get_saved_variables();
    if (at::GradMode::is_enabled())
      return chainGradients(saved, gradients[0], [](const variable_list& in) { return swigluChain(in[0], in[1]); });
    at::AutoDispatchBelowADInplaceOrView guard;
    const Tensor gate = saved[0].contiguous(), up = saved[1].contiguous(), dy = gradients[0].contiguous();
    const Tensor dGate = at::empty_like(gate), dUp = at::empty_like(up);
    withGateKernels(gate, [&]<typename T>(const cpu::GateKernels<T>& kernels) {
      const T *a = Memory<T>::read(gate), *b = Memory<T>::read(up), *c = Memory<T>::read(dy);
      T *forGate = Memory<T>::write(dGate), *forUp = Memory<T>::write(dUp);
      at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
        kernels.swigluBackward(a + begin, b + begin, c + begin, forGate + begin, forUp + begin, end - begin);
      });
    });
    return {dGate, dUp};
  }
};

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  if (gate.sizes() != up.sizes()) throw CallError("ERR_SHAPE", "gate and up differ in shape");
  const Types types = typesOf(gate, up);
  return types == Types::Float || types == Types::Half ? Swiglu::apply(gate, up) : swigluChain(gate, up);
}

// ---- Rotation
// --------------------------------------------------------------------------------------------------------

Tensor ropeChain(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  return x.mul(cos).add(at::roll(x, {x.size(-1) / 2}, {-1}).mul(sin));
}

struct Rope : torch::autograd::Function<Rope> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& cos, const Tensor& sin) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Types types = typesOf(input, cos);
    const Tensor x = input.contiguous(), c = cos.contiguous(), s = sin.contiguous(), y = resultLike(x, types);
    const int64_t rows = x.size(0), heads = x.size(1), dim = x.size(2);
    withRowKernels(types, [&]<typename X, typename W>(const cpu::RowKernels<X, W>& kernels) {
      using Y = typename cpu::RowKernels<X, W>::Y;
      const X* from = Memory<X>::read(x);
      const W *cosines = Memory<W>::read(c), *sines = Memory<W>::read(s);
      Y* to = Memory<Y>::write(y);
      at::parallel_for(0, rows, rowGrain(heads * dim), [&](int64_t begin, int64_t end) {
        const int64_t at = begin * heads * dim;
        kernels.rope(from + at, cosines + begin * dim, sines + begin * dim, to + at, end - begin, heads, dim);
      });
    });
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["types"] = static_cast<int64_t>(types);
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const auto types = static_cast<Types>(ctx->saved_data["types"].toInt());
    if (at::GradMode::is_enabled()) {
      // Linear in x: the gradient is the rotation back, whatever x was.
      const Tensor &dy = gradients[0], back = at::roll(saved[1], {dy.size(2) / 2}, {-1});
      return {ropeChain(dy, saved[0], back).to(types == Types::Half ? at::kBFloat16 : at::kFloat), Tensor(), Tensor()};
    }
    at::AutoDispatchBelowADInplaceOrView guard;
    const Tensor dy = gradients[0].contiguous(), c = saved[0].contiguous(), s = saved[1].contiguous();
    const Tensor dx = resultLike(dy, types);
    const int64_t rows = dy.size(0), heads = dy.size(1), dim = dy.size(2);
    withRowKernels(types, [&]<typename X, typename W>(const cpu::RowKernels<X, W>& kernels) {
      using Y = typename cpu::RowKernels<X, W>::Y;
      const Y* from = Memory<Y>::read(dy);
      const W *cosines = Memory<W>::read(c), *sines = Memory<W>::read(s);
      X* to = Memory<X>::write(dx);
      at::parallel_for(0, rows, rowGrain(heads * dim), [&](int64_t begin, int64_t end) {
        const int64_t at = begin * heads * dim;
        kernels.ropeBackward(from + at, cosines + begin * dim, sines + begin * dim, to + at, end - begin, heads, dim);
      });
    });
    return {dx, Tensor(), Tensor()};
  }
};

Tensor rope(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  if (x.dim() != 3 || x.size(2) % 2 != 0) throw CallError("ERR_SHAPE", "x has shape [rows, heads, an even head_dim]");
  const auto fits = [&](const Tensor& t) {
    return t.dim() == 3 && t.size(0) == x.size(0) && t.size(1) == 1 && t.size(2) == x.size(2);
  };
  if (!fits(cos) || !fits(sin)) throw CallError("ERR_SHAPE", "cos and sin have shape [rows, 1, head_dim]");
  const bool own = typesOf(x, cos) != Types::Other && typesOf(x, cos) == typesOf(x, sin) && !cos.requires_grad() &&
                   !sin.requires_grad();
  return own ? Rope::apply(x, cos, sin) : ropeChain(x, cos, sin);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(srum, m) {
  m.def("rms_norm(Tensor x, Tensor weight, float eps) -> Tensor");
  m.def("swiglu(Tensor gate, Tensor up) -> Tensor");
  m.def("rope(Tensor x, Tensor cos, Tensor sin) -> Tensor");
}
TORCH_LIBRARY_IMPL(srum, CompositeImplicitAutograd, m) {
  m.impl("rms_norm", rmsNorm);
  m.impl("swiglu", swiglu);
  m.impl("rope", rope);
}

}  // namespace srum

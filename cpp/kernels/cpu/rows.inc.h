// Norm, gate and rotation in one pass each, included once per instruction set after lanes.inc.h. Arithmetic is in
// float32; where a chain of single operators would have rounded an intermediate result to bfloat16, so do these.

template <typename X, typename W>
static void rmsNorm(const X* x, const W* weight, typename Promoted<X, W>::Type* y, float* r, int64_t rows,
                    int64_t width, float eps) {
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    Floats sum0 = {}, sum1 = {};
    int64_t c = 0;
    for (; c + 2 * kLanes <= width; c += 2 * kLanes) {
      const Floats a = load(x + c), b = load(x + c + kLanes);
      sum0 += a * a;
      sum1 += b * b;
    }
    float total = sumOf(sum0 + sum1);
    for (; c < width; ++c) total += get(x + c) * get(x + c);
    const float factor = 1.0f / __builtin_sqrtf(total / static_cast<float>(width) + eps);
    r[row] = factor;
    c = 0;
    for (; c + kLanes <= width; c += kLanes) store(y + c, rounded(load(x + c) * factor, x) * load(weight + c));
    for (; c < width; ++c) put(y + c, rounded(get(x + c) * factor, x) * get(weight + c));
  }
}

// With n = x r: dx = r (dy w - n mean(dy w n)), dw = sum over rows of dy n.
template <typename X, typename W>
static void rmsNormBackward(const X* x, const W* weight, const float* r, const typename Promoted<X, W>::Type* dy, X* dx,
                            float* dWeight, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; ++row, x += width, dy += width, dx += width) {
    Floats sum = {};
    int64_t c = 0;
    for (; c + kLanes <= width; c += kLanes) sum += load(x + c) * (load(dy + c) * load(weight + c));
    float total = sumOf(sum);
    for (; c < width; ++c) total += get(x + c) * (get(dy + c) * get(weight + c));
    const float factor = r[row], back = total * factor * factor * factor / static_cast<float>(width);
    c = 0;
    for (; c + kLanes <= width; c += kLanes) {
      const Floats value = load(x + c), gradient = load(dy + c);
      store(dx + c, gradient * load(weight + c) * factor - value * back);
      store(dWeight + c, load(dWeight + c) + gradient * (value * factor));
    }
    for (; c < width; ++c) {
      const float value = get(x + c), gradient = get(dy + c);
      put(dx + c, gradient * get(weight + c) * factor - value * back);
      dWeight[c] += gradient * (value * factor);
    }
  }
}

template <typename X, typename W>
static void rope(const X* x, const W* cos, const W* sin, typename Promoted<X, W>::Type* y, int64_t rows, int64_t heads,
                 int64_t dim) {
  const int64_t half = dim / 2;
  for (int64_t row = 0; row < rows; ++row, cos += dim, sin += dim) {
    for (int64_t head = 0; head < heads; ++head, x += dim, y += dim) {
      int64_t c = 0;
      for (; c + kLanes <= half; c += kLanes) {
        const Floats a = load(x + c), b = load(x + half + c);
        store(y + c, rounded(a * load(cos + c), y) + rounded(b * load(sin + c), y));
        store(y + half + c, rounded(b * load(cos + half + c), y) + rounded(a * load(sin + half + c), y));
      }
      for (; c < half; ++c) {
        const float a = get(x + c), b = get(x + half + c);
        put(y + c, rounded(a * get(cos + c), y) + rounded(b * get(sin + c), y));
        put(y + half + c, rounded(b * get(cos + half + c), y) + rounded(a * get(sin + half + c), y));
      }
    }
  }
}

template <typename X, typename W>
static void ropeBackward(const typename Promoted<X, W>::Type* dy, const W* cos, const W* sin, X* dx, int64_t rows,
                         int64_t heads, int64_t dim) {
  const int64_t half = dim / 2;
  for (int64_t row = 0; row < rows; ++row, cos += dim, sin += dim) {
    for (int64_t head = 0; head < heads; ++head, dy += dim, dx += dim) {
      int64_t c = 0;
      for (; c + kLanes <= half; c += kLanes) {
        const Floats a = load(dy + c), b = load(dy + half + c);
        store(dx + c, a * load(cos + c) + b * load(sin + half + c));
        store(dx + half + c, b * load(cos + half + c) + a * load(sin + c));
      }
      for (; c < half; ++c) {
        const float a = get(dy + c), b = get(dy + half + c);
        put(dx + c, a * get(cos + c) + b * get(sin + half + c));
        put(dx + half + c, b * get(cos + half + c) + a * get(sin + c));
      }
    }
  }
}

template <typename V, typename T>
SRUM_INLINE V gated(V gate, V up, const T* type) {
  return rounded(gate / (1.0f + expOf(-gate)), type) * up;
}

// d silu(g) / dg = s (1 + g (1 - s)) with s = sigmoid(g)
template <typename V, typename T>
SRUM_INLINE void gatedBackward(V gate, V up, V dy, V& dGate, V& dUp, const T* type) {
  const V s = 1.0f / (1.0f + expOf(-gate));
  dUp = dy * rounded(gate * s, type);
  dGate = dy * up * (s * (1.0f + gate * (1.0f - s)));
}

template <typename T>
static void swiglu(const T* gate, const T* up, T* y, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(y + i, gated(load(gate + i), load(up + i), y));
  for (; i < count; ++i) put(y + i, gated(get(gate + i), get(up + i), y));
}

template <typename T>
static void swigluBackward(const T* gate, const T* up, const T* dy, T* dGate, T* dUp, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Floats forGate, forUp;
    gatedBackward(load(gate + i), load(up + i), load(dy + i), forGate, forUp, dy);
    store(dGate + i, forGate);
    store(dUp + i, forUp);
  }
  for (; i < count; ++i) {
    float forGate, forUp;
    gatedBackward(get(gate + i), get(up + i), get(dy + i), forGate, forUp, dy);
    put(dGate + i, forGate);
    put(dUp + i, forUp);
  }
}

template <typename X, typename W>
static RowKernels<X, W> rowKernels() {
  return {rmsNorm<X, W>, rmsNormBackward<X, W>, rope<X, W>, ropeBackward<X, W>};
}

template <typename T>
static GateKernels<T> gateKernels() {
  return {swiglu<T>, swigluBackward<T>};
}

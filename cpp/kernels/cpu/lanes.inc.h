// Vectors of SRUM_LANES floats in the compiler's own vector types. Included once per instruction set, inside a
// namespace of its own and with no header after it: a function of the standard library instantiated here would be
// compiled for an instruction set that the machine may not have.

#define SRUM_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define SRUM_UNROLL _Pragma("unroll")
#define SRUM_SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define SRUM_UNROLL _Pragma("GCC unroll 8")
#define SRUM_SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, Ints4{i, j, k, l})
#endif

constexpr int kLanes = SRUM_LANES;

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2)));
typedef float Floats4 __attribute__((vector_size(16)));
typedef int32_t Ints4 __attribute__((vector_size(16)));

SRUM_INLINE float asFloat(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

// One number.
SRUM_INLINE float get(const float* p) { return *p; }
SRUM_INLINE float get(const Bf16* p) { return asFloat(static_cast<uint32_t>(p->bits) << 16); }
SRUM_INLINE void put(float* p, float x) { *p = x; }
SRUM_INLINE void put(Bf16* p, float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  p->bits = static_cast<uint16_t>(x != x ? 0x7fc0u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// A vector of them.
SRUM_INLINE Floats load(const float* p) {
  Floats x;
  __builtin_memcpy(&x, p, sizeof(x));
  return x;
}
SRUM_INLINE Floats load(const Bf16* p) {
  Halves h;
  __builtin_memcpy(&h, p, sizeof(h));
  return reinterpret_cast<Floats>(__builtin_convertvector(h, Words) << 16);
}
SRUM_INLINE void store(float* p, Floats x) { __builtin_memcpy(p, &x, sizeof(x)); }
SRUM_INLINE Words bf16Bits(Floats x) {
  const Words bits = reinterpret_cast<Words>(x);
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words isNan = reinterpret_cast<Words>(x != x);
  return (rounded & ~isNan) | (isNan & 0x7fc0u);
}
SRUM_INLINE void store(Bf16* p, Floats x) {
  const Halves h = __builtin_convertvector(bf16Bits(x), Halves);
  __builtin_memcpy(p, &h, sizeof(h));
}

// Rounding to the type of the second argument, which is not read.
SRUM_INLINE Floats rounded(Floats x, const float*) { return x; }
SRUM_INLINE Floats rounded(Floats x, const Bf16*) { return reinterpret_cast<Floats>(bf16Bits(x) << 16); }
SRUM_INLINE float rounded(float x, const float*) { return x; }
SRUM_INLINE float rounded(float x, const Bf16*) {
  Bf16 y;
  put(&y, x);
  return get(&y);
}

SRUM_INLINE Floats4 load4(const float* p) {
  Floats4 x;
  __builtin_memcpy(&x, p, 16);
  return x;
}
SRUM_INLINE Floats4 load4(const Bf16* p) { return Floats4{get(p), get(p + 1), get(p + 2), get(p + 3)}; }
SRUM_INLINE void store4(float* p, Floats4 x) { __builtin_memcpy(p, &x, 16); }

SRUM_INLINE float sumOf(Floats x) {
  Floats4 part[kLanes / 4];
  __builtin_memcpy(part, &x, sizeof(x));
  SRUM_UNROLL
  for (int i = 1; i < kLanes / 4; ++i) part[0] += part[i];
  part[0] += SRUM_SHUFFLE4(part[0], part[0], 2, 3, 0, 1);
  return part[0][0] + part[0][1];
}
SRUM_INLINE float maxOf(Floats x) {
  Floats4 part[kLanes / 4];
  __builtin_memcpy(part, &x, sizeof(x));
  SRUM_UNROLL
  for (int i = 1; i < kLanes / 4; ++i) part[0] = part[0] > part[i] ? part[0] : part[i];
  const Floats4 other = SRUM_SHUFFLE4(part[0], part[0], 2, 3, 0, 1);
  part[0] = part[0] > other ? part[0] : other;
  return part[0][0] > part[0][1] ? part[0][0] : part[0][1];
}

// e^x to about two units in the last place: 0 below -87.3, infinite above 88.3, NaN for NaN. The polynomial is Cephes'.
SRUM_INLINE Floats expOf(Floats x) {
  const Floats magic = Floats{} + 12582912.0f;  // adding 1.5 * 2^23 rounds to a whole number, kept in the low bits
  const Floats lowest = Floats{} - 87.3f, highest = Floats{} + 88.3f;
  Floats y = x < lowest ? lowest : x;
  y = y > highest ? highest : y;
  const Floats t = y * 1.44269504088896341f + magic;
  const Floats n = t - magic;
  const Floats r = y - n * 0.693359375f - n * -2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Ints exponent = (reinterpret_cast<Ints>(t) - reinterpret_cast<Ints>(magic) + 127) << 23;
  const Floats result = p * reinterpret_cast<Floats>(exponent);
  const Floats infinite = Floats{} + __builtin_inff();
  return x < lowest ? Floats{} : (x > highest ? infinite : result);
}
SRUM_INLINE float expOf(float x) { return expOf(Floats{} + x)[0]; }

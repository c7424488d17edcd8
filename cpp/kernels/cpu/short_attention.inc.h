// Attention of one group and one key head, included once per instruction set after lanes.inc.h. The query heads that
// share the key head are rows of one matrix (row i * shared + g), so keys and values are read once for all of them.
// Keys of all ranges are packed one behind the other: several ranges need no merging.

constexpr int kPanel = 2 * kLanes;  // keys in a panel: the width of a tile
constexpr int kTileRows = 6;        // 12 accumulators: what 16 registers allow
constexpr int64_t kScores = 12288;  // scores held at a time: they stay in the second-level cache
constexpr int64_t kValueRows =
    32;  // values that a single query row takes at a time: they stay in the first-level cache

SRUM_INLINE int64_t roundUp(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// c [kRows, kVectors * lanes] (+)= a [kRows, depth] b [depth, kVectors * lanes]
template <int kRows, int kVectors>
static inline void tile(const float* a, int64_t aRow, int64_t aStep, const float* b, int64_t bRow, float* c,
                        int64_t cRow, int64_t depth, bool add) {
  Floats sum[kRows][kVectors];
  SRUM_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SRUM_UNROLL
    for (int j = 0; j < kVectors; ++j) sum[i][j] = add ? load(c + i * cRow + j * kLanes) : Floats{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    Floats right[kVectors];
    SRUM_UNROLL
    for (int j = 0; j < kVectors; ++j) right[j] = load(b + k * bRow + j * kLanes);
    SRUM_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const float left = a[i * aRow + k * aStep];
      SRUM_UNROLL
      for (int j = 0; j < kVectors; ++j) sum[i][j] += right[j] * left;
    }
  }
  SRUM_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SRUM_UNROLL
    for (int j = 0; j < kVectors; ++j) store(c + i * cRow + j * kLanes, sum[i][j]);
  }
}

template <int kVectors>
static void strip(const float* a, int64_t aRow, int64_t aStep, const float* b, int64_t bRow, float* c, int64_t cRow,
                  int64_t rows, int64_t depth, bool add) {
  int64_t i = 0;
  for (; i + kTileRows <= rows; i += kTileRows)
    tile<kTileRows, kVectors>(a + i * aRow, aRow, aStep, b, bRow, c + i * cRow, cRow, depth, add);
  const float* left = a + i * aRow;
  float* out = c + i * cRow;
  switch (rows - i) {
    case 5:
      tile<5, kVectors>(left, aRow, aStep, b, bRow, out, cRow, depth, add);
      break;
    case 4:
      tile<4, kVectors>(left, aRow, aStep, b, bRow, out, cRow, depth, add);
      break;
    case 3:
      tile<3, kVectors>(left, aRow, aStep, b, bRow, out, cRow, depth, add);
      break;
    case 2:
      tile<2, kVectors>(left, aRow, aStep, b, bRow, out, cRow, depth, add);
      break;
    case 1:
      tile<1, kVectors>(left, aRow, aStep, b, bRow, out, cRow, depth, add);
      break;
    default:
      break;
  }
}

// c [rows, columns] (+)= a b with b [depth, columns] by rows; columns is a multiple of the lanes. a may be transposed:
// element (i, k) lies at a[i * aRow + k * aStep].
static void product(const float* a, int64_t aRow, int64_t aStep, const float* b, int64_t bRow, float* c, int64_t cRow,
                    int64_t rows, int64_t columns, int64_t depth, bool add) {
  int64_t j = 0;
  for (; j + kPanel <= columns; j += kPanel) strip<2>(a, aRow, aStep, b + j, bRow, c + j, cRow, rows, depth, add);
  if (j < columns) strip<1>(a, aRow, aStep, b + j, bRow, c + j, cRow, rows, depth, add);
}

// c [rows, columns] = a [rows, depth] b with b in panels [columns / kPanel][depth][kPanel]; columns are rounded up.
static void panelProduct(const float* a, int64_t aRow, const float* b, float* c, int64_t cRow, int64_t rows,
                         int64_t columns, int64_t depth) {
  for (int64_t j = 0; j < columns; j += kPanel)
    strip<2>(a, aRow, 1, b + j * depth, kPanel, c + j, cRow, rows, depth, false);
}

// Goes through the key rows of a group, range by range.
struct KeyCursor {
  const KeyRange* range;
  int64_t row;
};
SRUM_INLINE KeyCursor firstKey(const AttentionGroup& g) { return {g.ranges, g.ranges->begin}; }
SRUM_INLINE int64_t nextKey(KeyCursor& cursor) {
  if (cursor.row == cursor.range->end) {
    ++cursor.range;
    cursor.row = cursor.range->begin;
  }
  return cursor.row++;
}

// Rows of k (or v) of one head as panels [keys / kPanel][dim][kPanel], padded with zeros.
template <typename T>
static void packPanels(const T* base, int64_t rowStride, int64_t dim, const AttentionGroup& g, float* out) {
  KeyCursor cursor = firstKey(g);
  for (int64_t first = 0; first < g.keys; first += kPanel, out += dim * kPanel) {
    const int64_t count = g.keys - first < kPanel ? g.keys - first : kPanel;
    const T* rows[kPanel];
    for (int64_t j = 0; j < count; ++j) rows[j] = base + nextKey(cursor) * rowStride;
    int64_t j = 0;
    for (; j + 4 <= count; j += 4) {
      int64_t c = 0;
      for (; c + 4 <= dim; c += 4) {
        const Floats4 a = load4(rows[j] + c), b = load4(rows[j + 1] + c), d = load4(rows[j + 2] + c),
                      e = load4(rows[j + 3] + c);
        const Floats4 ab0 = SRUM_SHUFFLE4(a, b, 0, 4, 1, 5), ab1 = SRUM_SHUFFLE4(a, b, 2, 6, 3, 7),
                      de0 = SRUM_SHUFFLE4(d, e, 0, 4, 1, 5), de1 = SRUM_SHUFFLE4(d, e, 2, 6, 3, 7);
        float* to = out + c * kPanel + j;
        store4(to, SRUM_SHUFFLE4(ab0, de0, 0, 1, 4, 5));
        store4(to + kPanel, SRUM_SHUFFLE4(ab0, de0, 2, 3, 6, 7));
        store4(to + 2 * kPanel, SRUM_SHUFFLE4(ab1, de1, 0, 1, 4, 5));
        store4(to + 3 * kPanel, SRUM_SHUFFLE4(ab1, de1, 2, 3, 6, 7));
      }
      for (; c < dim; ++c) {
        for (int64_t i = 0; i < 4; ++i) out[c * kPanel + j + i] = get(rows[j + i] + c);
      }
    }
    for (; j < count; ++j) {
      for (int64_t c = 0; c < dim; ++c) out[c * kPanel + j] = get(rows[j] + c);
    }
    if (count < kPanel) {
      for (int64_t c = 0; c < dim; ++c) {
        for (int64_t i = count; i < kPanel; ++i) out[c * kPanel + i] = 0.0f;
      }
    }
  }
}

// One row times a factor, padded with zeros to `width`.
template <typename T>
SRUM_INLINE void packRow(const T* from, int64_t dim, int64_t width, float factor, float* to) {
  int64_t c = 0;
  for (; c + kLanes <= dim; c += kLanes) store(to + c, load(from + c) * factor);
  for (; c < dim; ++c) to[c] = get(from + c) * factor;
  for (; c < width; ++c) to[c] = 0.0f;
}

// Rows of k (or v) of one head by rows, padded to `width` columns.
template <typename T>
static void packKeys(const T* base, int64_t rowStride, int64_t dim, int64_t width, const AttentionGroup& g,
                     float* out) {
  KeyCursor cursor = firstKey(g);
  for (int64_t j = 0; j < g.keys; ++j) packRow(base + nextKey(cursor) * rowStride, dim, width, 1.0f, out + j * width);
}

// Goes through the rows of a score matrix: query by query, and in each the query heads that share the key head.
struct RowCursor {
  int64_t query, shared;
};
SRUM_INLINE RowCursor rowAt(int64_t row, int64_t shared) { return {row / shared, row % shared}; }
SRUM_INLINE void advance(RowCursor& row, int64_t shared) {
  if (++row.shared == shared) {
    row.shared = 0;
    ++row.query;
  }
}

// Where things lie for one group and key head.
struct Extent {
  int64_t shared;   // query heads per key head
  int64_t rows;     // rows of the score matrix
  int64_t width;    // dim rounded up to whole vectors
  int64_t columns;  // keys rounded up to whole panels
  int64_t block;    // rows held at a time
};

template <typename T>
SRUM_INLINE Extent extentOf(const AttentionArrays<T>& a, const AttentionGroup& g) {
  Extent e;
  e.shared = a.heads / a.kvHeads;
  e.rows = (g.qEnd - g.qBegin) * e.shared;
  e.width = roundUp(a.dim, kLanes);
  e.columns = roundUp(g.keys, kPanel);
  e.block = roundUp(kScores / e.columns + 1, kTileRows);
  if (e.block > e.rows) e.block = e.rows;
  return e;
}

// A single query row, as in decoding, is too little work to pay for packing.
template <typename T>
SRUM_INLINE bool inPlace(const AttentionArrays<T>& a, const AttentionGroup& g) {
  return g.qEnd - g.qBegin == 1 && a.dim % kLanes == 0;
}

template <typename T>
static int64_t scratchFloats(const AttentionArrays<T>& a, const AttentionGroup& g, bool backward) {
  const Extent e = extentOf(a, g);
  if (!backward && inPlace(a, g)) return e.shared * (2 * e.width + e.columns) + kValueRows * e.width;
  const int64_t panels = e.columns * a.dim, keys = g.keys * e.width, rows = e.block * e.width;
  if (backward) return 2 * panels + 3 * keys + 3 * rows + 2 * e.block * e.columns + 2 * e.block;
  return panels + keys + 2 * rows + e.block * e.columns + e.block;
}

// The keys that any of the query rows before `queryEnd` sees, when they lie in front of all others.
SRUM_INLINE int64_t visibleColumns(const AttentionGroup& g, int64_t queryEnd) {
  return g.triangles == 1 ? g.keys - (g.qEnd - g.qBegin) + queryEnd : g.keys;
}

// Gives the scores of one row that it must not see, up to the whole panel, minus infinity.
SRUM_INLINE void hide(float* scores, const AttentionGroup& g, int64_t query, int64_t columns, int64_t padded) {
  const float hidden = -__builtin_inff();
  const int64_t queries = g.qEnd - g.qBegin;
  for (int64_t t = 0; t < g.triangles; ++t) {
    const int64_t start = g.keys - (g.triangles - t) * queries;
    const int64_t end = start + queries < columns ? start + queries : columns;
    for (int64_t j = start + query + 1; j < end; ++j) scores[j] = hidden;
  }
  for (int64_t j = columns; j < padded; ++j) scores[j] = hidden;
}

// Scores -> exp(score - shift); returns their sum.
SRUM_INLINE float exponentials(float* scores, int64_t padded, float shift) {
  Floats sum0 = {}, sum1 = {};
  for (int64_t j = 0; j < padded; j += kPanel) {
    const Floats p0 = expOf(load(scores + j) - shift), p1 = expOf(load(scores + j + kLanes) - shift);
    store(scores + j, p0);
    store(scores + j + kLanes, p1);
    sum0 += p0;
    sum1 += p1;
  }
  return sumOf(sum0 + sum1);
}

SRUM_INLINE float largest(const float* scores, int64_t padded) {
  Floats m0 = load(scores), m1 = load(scores + kLanes);
  for (int64_t j = kPanel; j < padded; j += kPanel) {
    const Floats s0 = load(scores + j), s1 = load(scores + j + kLanes);
    m0 = s0 > m0 ? s0 : m0;
    m1 = s1 > m1 ? s1 : m1;
  }
  return maxOf(m0 > m1 ? m0 : m1);
}

// Rows of values, read in place or brought to float32.
SRUM_INLINE const float* valueRows(const float* v, int64_t stride, int64_t, int64_t, float*, int64_t* rowStride) {
  *rowStride = stride;
  return v;
}
SRUM_INLINE const float* valueRows(const Bf16* v, int64_t stride, int64_t dim, int64_t count, float* out,
                                   int64_t* rowStride) {
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t c = 0; c < dim; c += kLanes) store(out + j * dim + c, load(v + j * stride + c));
  }
  *rowStride = dim;
  return out;
}

template <typename T>
static void forwardRow(const AttentionArrays<T>& a, const AttentionGroup& g, int64_t kvHead, float* scratch) {
  const Extent e = extentOf(a, g);
  const int64_t stride = a.kvHeads * a.dim, head = kvHead * e.shared, at = (g.qBegin * a.heads + head) * a.dim;
  const T *k = a.k + kvHead * a.dim, *v = a.v + kvHead * a.dim;
  float* queries = scratch;
  float* result = queries + e.shared * e.width;
  float* scores = result + e.shared * e.width;
  float* values = scores + e.shared * e.columns;
  packRow(a.q + at, e.shared * a.dim, e.shared * a.dim, a.scale, queries);
  KeyCursor cursor = firstKey(g);
  for (int64_t j = 0; j < g.keys; ++j) {
    const T* key = k + nextKey(cursor) * stride;
    for (int64_t s = 0; s < e.shared; ++s) {
      const float* query = queries + s * a.dim;
      Floats even = {}, odd = {};
      int64_t c = 0;
      for (; c + kPanel <= a.dim; c += kPanel) {
        even += load(query + c) * load(key + c);
        odd += load(query + c + kLanes) * load(key + c + kLanes);
      }
      if (c < a.dim) even += load(query + c) * load(key + c);
      scores[s * e.columns + j] = sumOf(even + odd);
    }
  }
  for (int64_t s = 0; s < e.shared; ++s) {
    float* row = scores + s * e.columns;
    for (int64_t j = g.keys; j < e.columns; ++j) row[j] = -__builtin_inff();
    const float most = largest(row, e.columns);
    const float total = exponentials(row, e.columns, most), factor = 1.0f / total;
    a.lse[(head + s) * a.queryRows + g.qBegin] = most + __builtin_logf(total);
    for (int64_t j = 0; j < e.columns; j += kLanes) store(row + j, load(row + j) * factor);
  }
  int64_t done = 0;
  for (int64_t i = 0; i < g.rangeCount; ++i) {
    for (int64_t row = g.ranges[i].begin; row < g.ranges[i].end; row += kValueRows) {
      const int64_t left = g.ranges[i].end - row, count = left < kValueRows ? left : kValueRows;
      int64_t rowStride;
      const float* block = valueRows(v + row * stride, stride, a.dim, count, values, &rowStride);
      product(scores + done, e.columns, 1, block, rowStride, result, a.dim, e.shared, a.dim, count, done > 0);
      done += count;
    }
  }
  for (int64_t c = 0; c < e.shared * a.dim; c += kLanes) store(a.out + at + c, load(result + c));
}

// Rows [from, from + count) of the score matrix of q (or anything of its shape), times a factor.
template <typename T>
static void packQueries(const T* base, const AttentionArrays<T>& a, const AttentionGroup& g, const Extent& e,
                        int64_t kvHead, int64_t from, int64_t count, float factor, float* out) {
  RowCursor row = rowAt(from, e.shared);
  for (int64_t r = 0; r < count; ++r, advance(row, e.shared)) {
    packRow(base + ((g.qBegin + row.query) * a.heads + kvHead * e.shared + row.shared) * a.dim, a.dim, e.width, factor,
            out + r * e.width);
  }
}

template <typename T>
static void forwardGroup(const AttentionArrays<T>& a, const AttentionGroup& g, int64_t kvHead, float* scratch) {
  if (inPlace(a, g)) return forwardRow(a, g, kvHead, scratch);
  const Extent e = extentOf(a, g);
  const int64_t rowStride = a.kvHeads * a.dim;
  float* keys = scratch;
  float* values = keys + e.columns * a.dim;
  float* queries = values + g.keys * e.width;
  float* result = queries + e.block * e.width;
  float* scores = result + e.block * e.width;
  float* factors = scores + e.block * e.columns;
  packPanels(a.k + kvHead * a.dim, rowStride, a.dim, g, keys);
  packKeys(a.v + kvHead * a.dim, rowStride, a.dim, e.width, g, values);
  for (int64_t from = 0; from < e.rows; from += e.block) {
    const int64_t count = e.rows - from < e.block ? e.rows - from : e.block;
    RowCursor at;
    const int64_t columns = visibleColumns(g, (from + count - 1) / e.shared + 1), padded = roundUp(columns, kPanel);
    packQueries(a.q, a, g, e, kvHead, from, count, a.scale, queries);
    panelProduct(queries, e.width, keys, scores, e.columns, count, columns, a.dim);
    at = rowAt(from, e.shared);
    for (int64_t r = 0; r < count; ++r, advance(at, e.shared)) {
      float* row = scores + r * e.columns;
      hide(row, g, at.query, columns, padded);
      const float most = largest(row, padded);
      const float total = exponentials(row, padded, most);
      factors[r] = 1.0f / total;
      a.lse[(kvHead * e.shared + at.shared) * a.queryRows + g.qBegin + at.query] = most + __builtin_logf(total);
    }
    product(scores, e.columns, 1, values, e.width, result, e.width, count, e.width, columns, false);
    at = rowAt(from, e.shared);
    for (int64_t r = 0; r < count; ++r, advance(at, e.shared)) {
      T* to = a.out + ((g.qBegin + at.query) * a.heads + kvHead * e.shared + at.shared) * a.dim;
      const float* row = result + r * e.width;
      int64_t c = 0;
      for (; c + kLanes <= a.dim; c += kLanes) store(to + c, load(row + c) * factors[r]);
      for (; c < a.dim; ++c) put(to + c, row[c] * factors[r]);
    }
  }
}

// With P = softmax(scale q k^T) and out = P v (as in FlashAttention, arXiv 2205.14135, appendix B.4):
// dv = P^T dout, dS = P (dout v^T - dout . out), dq = scale dS k, dk = scale dS^T q. P is made anew from the
// log-sum-exp that the forward pass kept.
template <typename T>
static void backwardGroup(const AttentionArrays<T>& a, const AttentionGroup& g, int64_t kvHead, float* scratch) {
  const Extent e = extentOf(a, g);
  const int64_t rowStride = a.kvHeads * a.dim, headAt = kvHead * a.dim;
  float* keyPanels = scratch;
  float* valuePanels = keyPanels + e.columns * a.dim;
  float* keys = valuePanels + e.columns * a.dim;
  float* dKeys = keys + g.keys * e.width;
  float* dValues = dKeys + g.keys * e.width;
  float* queries = dValues + g.keys * e.width;
  float* dOut = queries + e.block * e.width;
  float* result = dOut + e.block * e.width;
  float* weights = result + e.block * e.width;
  float* dScores = weights + e.block * e.columns;
  float* delta = dScores + e.block * e.columns;
  packPanels(a.k + headAt, rowStride, a.dim, g, keyPanels);
  packPanels(a.v + headAt, rowStride, a.dim, g, valuePanels);
  packKeys(a.k + headAt, rowStride, a.dim, e.width, g, keys);
  __builtin_memset(dKeys, 0, sizeof(float) * 2 * g.keys * e.width);
  for (int64_t from = 0; from < e.rows; from += e.block) {
    const int64_t count = e.rows - from < e.block ? e.rows - from : e.block;
    RowCursor at;
    const int64_t columns = visibleColumns(g, (from + count - 1) / e.shared + 1), padded = roundUp(columns, kPanel);
    packQueries(a.q, a, g, e, kvHead, from, count, a.scale, queries);
    packQueries(a.outGradient, a, g, e, kvHead, from, count, 1.0f, dOut);
    packQueries<T>(a.out, a, g, e, kvHead, from, count, 1.0f, result);
    for (int64_t r = 0; r < count; ++r) {
      Floats sum = {};
      for (int64_t c = 0; c < e.width; c += kLanes)
        sum += load(dOut + r * e.width + c) * load(result + r * e.width + c);
      delta[r] = sumOf(sum);
    }
    panelProduct(queries, e.width, keyPanels, weights, e.columns, count, columns, a.dim);
    panelProduct(dOut, e.width, valuePanels, dScores, e.columns, count, columns, a.dim);
    at = rowAt(from, e.shared);
    for (int64_t r = 0; r < count; ++r, advance(at, e.shared)) {
      float *p = weights + r * e.columns, *ds = dScores + r * e.columns;
      hide(p, g, at.query, columns, padded);
      const float lse = a.lse[(kvHead * e.shared + at.shared) * a.queryRows + g.qBegin + at.query];
      for (int64_t j = 0; j < padded; j += kLanes) {
        const Floats weight = expOf(load(p + j) - lse);
        store(p + j, weight);
        store(ds + j, weight * (load(ds + j) - delta[r]));
      }
    }
    product(weights, 1, e.columns, dOut, e.width, dValues, e.width, columns, e.width, count, true);
    product(dScores, 1, e.columns, queries, e.width, dKeys, e.width, columns, e.width, count, true);
    product(dScores, e.columns, 1, keys, e.width, result, e.width, count, e.width, columns, false);
    at = rowAt(from, e.shared);
    for (int64_t r = 0; r < count; ++r, advance(at, e.shared)) {
      packRow(result + r * e.width, a.dim, a.dim, a.scale,
              a.dq + ((g.qBegin + at.query) * a.heads + kvHead * e.shared + at.shared) * a.dim);
    }
  }
  KeyCursor cursor = firstKey(g);
  for (int64_t j = 0; j < g.keys; ++j) {
    const int64_t at = nextKey(cursor) * rowStride + headAt;
    float *dk = a.dk + at, *dv = a.dv + at;
    const float *fromKeys = dKeys + j * e.width, *fromValues = dValues + j * e.width;
    int64_t c = 0;
    for (; c + kLanes <= a.dim; c += kLanes) {
      store(dk + c, load(dk + c) + load(fromKeys + c));
      store(dv + c, load(dv + c) + load(fromValues + c));
    }
    for (; c < a.dim; ++c) {
      dk[c] += fromKeys[c];
      dv[c] += fromValues[c];
    }
  }
}

template <typename T>
static AttentionKernels<T> attentionKernels() {
  return {scratchFloats<T>, forwardGroup<T>, backwardGroup<T>};
}

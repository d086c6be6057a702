// cholesky: A = U^T U of each matrix of a batch, U upper triangular, L = U^T.
//
// input a (batch, n, n); outputs l (batch, n, n), info (batch). Computed in float, in a copy of the
// triangle that is read, as rows of U: padded to multiples of 16 columns, kLine elements apart from
// what would share sets of a cache. Blocks of 16 rows are updated by all rows above (update), then
// the block on the diagonal is factored (factor) and the columns right of it are solved (solve).
//
// Two ways, chosen by the launch: mlx_kd_cholesky factors whole matrices, a unit each; or its
// parts are stages that share one matrix among threads: load, then for each panel of BLOCK rows
// panel and columns, then store.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16, 8 float64
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector
#endif
#ifndef ROWS
#define ROWS 8  // rows of U that are updated together: a divisor of 16
#endif
#ifndef TILE
#define TILE 2  // sixteens of columns that are updated together
#endif
#ifndef BLOCK
#define BLOCK 64  // rows of a panel: a multiple of 16
#endif

#include "../../common/elements.cpu.h"
#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_n 1
#define KD_DIM_upper 2
#endif

constexpr int kParts = kLine / kFloats;  // vectors of sixteen columns

// One matrix in work: row i of U begins at u + i * stride; inverse[i] is 1 / U[i][i].
struct Work {
  Float* u;
  Float* inverse;
  long n, columns, stride;
};

static long padded(long n) {
  return (n + kLine - 1) / kLine * kLine;
}

// Work number `slot`, of padded(n) * (padded(n) + 32) floats as the host knows too.
static Work work_of(const kd_arguments* a, long slot) {
  Work w;
  w.n = a->dims[KD_DIM_n];
  w.columns = padded(w.n);
  w.stride = w.columns / kLine % 2 ? w.columns : w.columns + kLine;
  w.u = (Float*)a->scratch[0] + slot * w.columns * (w.columns + 2 * kLine);
  w.inverse = w.u + w.columns * w.stride;
  return w;
}

// Rows [from, from + 16) of U, from the triangle of a that is read; what is below the diagonal and
// in the padding is 0 or of no account.
static void load_rows(const Work& w, const T* a, long from, bool upper) {
  const long n = w.n, end = from + kLine < n ? from + kLine : n;
  for (long i = from; i < from + kLine; ++i)
    for (long j = from; j < w.columns; j += kLine)
      if (j == from || j + kLine > n || i >= n)
        __builtin_memset(w.u + i * w.stride + j, 0, kLine * sizeof(Float));
  if (upper) {
    for (long i = from; i < end; ++i)
      for (long j = i; j < n; ++j) w.u[i * w.stride + j] = widen(a[i * n + j]);
    return;
  }
  for (long j = from; j < n; ++j) {
    const long last = j < end ? j + 1 : end;
    for (long i = from; i < last; ++i) w.u[i * w.stride + j] = widen(a[j * n + i]);
  }
}

// Rows [from, from + 16) of l.
static void store_rows(const Work& w, T* l, long from, bool upper) {
  const long n = w.n, end = from + kLine < n ? from + kLine : n;
  if (upper) {
    for (long i = from; i < end; ++i) {
      for (long j = 0; j < i; ++j) l[i * n + j] = 0;
      for (long j = i; j < n; ++j) l[i * n + j] = narrow(w.u[i * w.stride + j]);
    }
    return;
  }
  for (long j = 0; j < end; ++j)
    for (long i = j > from ? j : from; i < end; ++i) l[i * n + j] = narrow(w.u[j * w.stride + i]);
  for (long i = from; i < end; ++i)
    for (long j = i + 1; j < n; ++j) l[i * n + j] = 0;
}

static void store_nan(T* l, long count) {
  for (long i = 0; i < count; ++i) l[i] = narrow(__builtin_nanf(""));
}

// Columns [j, j + 16 * kTile) of the rows [b, b + 16) of U, less the products of the rows above.
template <int kTile>
KD_INLINE void update_tile(const Work& w, long b, long j) {
  constexpr int kVectors = kTile * kParts;
  for (int r = 0; r < kLine; r += ROWS) {
    Floats sum[ROWS][kVectors];
    Float* const to = w.u + (b + r) * w.stride + j;
    for (int i = 0; i < ROWS; ++i)
      for (int v = 0; v < kVectors; ++v) sum[i][v] = load(to + i * w.stride + v * kFloats);
    const Float* above = w.u;
    for (long p = 0; p < b; ++p, above += w.stride)
      for (int v = 0; v < kVectors; ++v) {
        const Floats row = load(above + j + v * kFloats);
        for (int i = 0; i < ROWS; ++i) sum[i][v] -= above[b + r + i] * row;
      }
    for (int i = 0; i < ROWS; ++i)
      for (int v = 0; v < kVectors; ++v) store(to + i * w.stride + v * kFloats, sum[i][v]);
  }
}

static void update(const Work& w, long b, long begin, long end) {
  if (b == 0) return;
  long j = begin;
  for (; j + TILE * kLine <= end; j += TILE * kLine) update_tile<TILE>(w, b, j);
  for (; j < end; j += kLine) update_tile<1>(w, b, j);
}

// The block on the diagonal at b; the order of the first leading minor that is not positive, or 0.
static long factor(const Work& w, long b) {
  const int rows = int(w.n - b < kLine ? w.n - b : kLine);
  Float* const u = w.u + b * w.stride + b;
  for (int r = 0; r < rows; ++r) {
    Float* const row = u + r * w.stride;
    const Float pivot = row[r];
    if (!(pivot > 0)) return b + r + 1;
    const Float root = square_root(pivot), inverse = 1 / root;
    w.inverse[b + r] = inverse;
    Floats scaled[kParts];
    for (int v = 0; v < kParts; ++v) {
      scaled[v] = load(row + v * kFloats) * inverse;
      store(row + v * kFloats, scaled[v]);
    }
    row[r] = root;
    for (int i = r + 1; i < rows; ++i)
      for (int v = 0; v < kParts; ++v) {
        Float* const to = u + i * w.stride + v * kFloats;
        store(to, load(to) - row[i] * scaled[v]);
      }
  }
  return 0;
}

// Columns [begin, end) of the rows [b, b + 16) of U, right of a factored block.
static void solve(const Work& w, long b, long begin, long end) {
  const Float* const block = w.u + b * w.stride + b;
  for (long j = begin; j < end; j += kFloats) {
    Floats x[kLine];
    Float* const to = w.u + b * w.stride + j;
#pragma GCC unroll 16
    for (int r = 0; r < kLine; ++r) x[r] = load(to + r * w.stride);
#pragma GCC unroll 16
    for (int r = 0; r < kLine; ++r) {
      x[r] *= w.inverse[b + r];
      store(to + r * w.stride, x[r]);
#pragma GCC unroll 16
      for (int i = r + 1; i < kLine; ++i) x[i] -= block[r * w.stride + i] * x[r];
    }
  }
}

// Rows [from, to) of U in the columns [from, to), with the rows above done.
static long factor_panel(const Work& w, long from, long to) {
  for (long b = from; b < to; b += kLine) {
    update(w, b, b, to);
    if (const long info = factor(w, b)) return info;
    solve(w, b, b + kLine, to);
  }
  return 0;
}

// The same rows in the columns [begin, end), right of the panel.
static void finish_columns(const Work& w, long from, long to, long begin, long end) {
  for (long b = from; b < to; b += kLine) {
    update(w, b, begin, end);
    solve(w, b, begin, end);
  }
}

static long panel_end(const Work& w, long from) {
  return from + BLOCK < w.columns ? from + BLOCK : w.columns;
}

// ---- whole matrices; the stage is how many a task has, which has a work of its own
extern "C" void mlx_kd_cholesky(const kd_arguments* a, long begin, long end) {
  const Work w = work_of(a, begin / a->stage);
  const bool upper = a->dims[KD_DIM_upper];
  for (long m = begin; m < end; ++m) {
    const T* from = (const T*)a->inputs[0] + m * w.n * w.n;
    T* l = (T*)a->outputs[0] + m * w.n * w.n;
    long info = 0;
    for (long i = 0; i < w.columns; i += kLine) load_rows(w, from, i, upper);
    for (long p = 0; p < w.columns && !info; p += BLOCK) {
      const long next = panel_end(w, p);
      info = factor_panel(w, p, next);
      if (!info) finish_columns(w, p, next, next, w.columns);
    }
    ((int*)a->outputs[1])[m] = int(info);
    if (info) store_nan(l, w.n * w.n);
    for (long i = 0; i < w.columns && !info; i += kLine) store_rows(w, l, i, upper);
  }
}

// ---- stages; units of load, columns and store are sixteens of each matrix, of panel matrices
extern "C" void mlx_kd_cholesky_load(const kd_arguments* a, long begin, long end) {
  for (long unit = begin; unit < end; ++unit) {
    const long blocks = padded(a->dims[KD_DIM_n]) / kLine, m = unit / blocks;
    const Work w = work_of(a, m);
    load_rows(w, (const T*)a->inputs[0] + m * w.n * w.n, unit % blocks * kLine,
              a->dims[KD_DIM_upper]);
    if (unit % blocks == 0) ((int*)a->outputs[1])[m] = 0;
  }
}

// The stage is the first row of the panel.
extern "C" void mlx_kd_cholesky_panel(const kd_arguments* a, long begin, long end) {
  for (long m = begin; m < end; ++m) {
    int* const info = (int*)a->outputs[1] + m;
    const Work w = work_of(a, m);
    if (!*info) *info = int(factor_panel(w, a->stage, panel_end(w, a->stage)));
  }
}

extern "C" void mlx_kd_cholesky_columns(const kd_arguments* a, long begin, long end) {
  const long columns = padded(a->dims[KD_DIM_n]), first = a->stage + BLOCK;
  const long blocks = (columns - first + TILE * kLine - 1) / (TILE * kLine);
  for (long unit = begin; unit < end; ++unit) {
    const long m = unit / blocks, from = first + unit % blocks * (TILE * kLine);
    const long to = from + TILE * kLine < columns ? from + TILE * kLine : columns;
    if (!((const int*)a->outputs[1])[m]) finish_columns(work_of(a, m), a->stage, first, from, to);
  }
}

extern "C" void mlx_kd_cholesky_store(const kd_arguments* a, long begin, long end) {
  const long blocks = padded(a->dims[KD_DIM_n]) / kLine;
  for (long unit = begin; unit < end; ++unit) {
    const long m = unit / blocks, from = unit % blocks * kLine;
    const Work w = work_of(a, m);
    T* l = (T*)a->outputs[0] + m * w.n * w.n;
    const long rows = w.n - from < kLine ? w.n - from : kLine;
    if (((const int*)a->outputs[1])[m])
      store_nan(l + from * w.n, rows * w.n);
    else
      store_rows(w, l, from, a->dims[KD_DIM_upper]);
  }
}

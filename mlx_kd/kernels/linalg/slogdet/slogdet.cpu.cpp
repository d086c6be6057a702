// slogdet: sign and logarithm of the determinant of each matrix of a batch, by P A = L U with
// partial pivoting.
//
// input a (batch, n, n); outputs sign (batch), logabsdet (batch), info (batch). lu.cpu.h says how A
// is factored. The mantissas of the pivots are multiplied in double, their exponents added.
// mlx_kd_slogdet takes whole matrices, a unit each; mlx_kd_lu_load, _panel, _columns and
// mlx_kd_slogdet_sum are stages that share one among threads.
#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_n 1
#endif
#define KD_INFO 2

#include "../lu.cpu.h"

// x = mantissa 2^exponent, the mantissa between sqrt(1/2) and sqrt(2). x is positive and normal.
static double mantissa_of(double x, long* exponent) {
  unsigned long bits = __builtin_bit_cast(unsigned long, x);
  *exponent += (long)(bits >> 52) - 1023;
  bits = (bits & 0xfffffffffffff) | 0x3ff0000000000000;
  double mantissa = __builtin_bit_cast(double, bits);
  if (mantissa > 0x1.6a09e667f3bcdp0) mantissa /= 2, ++*exponent;
  return mantissa;
}

// log of a mantissa: 2 atanh((x - 1) / (x + 1)), whose argument is at most 0.172.
static double log_of(double x) {
  const double z = (x - 1) / (x + 1), square = z * z;
  double sum = 0;
  for (int k = 21; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
  return 2 * z * sum;
}

static bool is_finite(const Float* x, long count) {
  const Float most = largest(x, count);
  return most - most == 0;
}

static void store_determinant(const kd_arguments* a, const Work& w, long each) {
  Float *const sign = (Float*)a->outputs[0] + each, *const log = (Float*)a->outputs[1] + each;
  if (*info_of(a, each)) {
    const bool is_zero =
        is_finite(matrix_of(a, each), w.n * w.n) && is_finite(w.w, w.rows * w.stride);
    *sign = is_zero ? 0 : __builtin_nanf("");
    *log = is_zero ? -__builtin_inff() : __builtin_nanf("");
    return;
  }
  double product = 1;
  long exponent = 0;
  bool is_negative = false;
  for (long k = 0; k < w.n; ++k) {
    const double pivot = w.w[k * w.stride + k];
    is_negative ^= (pivot < 0) ^ (w.pivots[k] != k);
    product = mantissa_of(product * (pivot < 0 ? -pivot : pivot), &exponent);
  }
  *sign = is_negative ? -1 : 1;
  *log = (Float)((double)exponent * 0x1.62e42fefa39efp-1 + log_of(product));
}

// ---- whole matrices; the stage is how many a task has, which has a work of its own
extern "C" void mlx_kd_slogdet(const kd_arguments* a, long begin, long end) {
  const Work w = work_of(a, begin / a->stage);
  for (long each = begin; each < end; ++each) {
    load_rows(w, matrix_of(a, each), 0, w.rows);
    *info_of(a, each) = (int)factor(w);
    store_determinant(a, w, each);
  }
}

// Units are matrices.
extern "C" void mlx_kd_slogdet_sum(const kd_arguments* a, long begin, long end) {
  for (long each = begin; each < end; ++each) store_determinant(a, work_of(a, each), each);
}

// exp, log and the normal distribution with the same bits on every machine: plain IEEE operations
// in a fixed order, where a libm may use fused ones or not.
#pragma once

#include <cstddef>

namespace mlx_kd::search {

double fixed_exp(double x);  // relative error below 1e-14; 0 below -700, at most exp(700)
void fixed_exp(double* x, size_t count);  // of each, in place: much faster than one by one
double fixed_log(double x);               // x > 0, normal; absolute error below 1e-15 (1 + |log x|)

// log of the expected improvement E[max(0, best - Y)] of Y ~ Normal(mean, sd), sd > 0; finite for
// all finite arguments (it stays ordered where the improvement itself underflows).
double log_expected_improvement(double best, double mean, double sd);

// P(Z < z) of a standard normal Z; relative error about 1e-7.
double normal_below(double z);

// sum of a[i] b[i], in four interleaved partial sums.
double dot(const double* a, const double* b, size_t count);

}  // namespace mlx_kd::search

// Weights of a product on the host: which formats there are, how random ones are written, and their
// values in float64.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::matmul {

// As weights.cpu.h counts them.
enum Mode { kAffine, kMxfp4, kMxfp8, kNvfp4, kDense };

struct Format {
  int64_t bits = 0, group = 0, mode = kDense;
};

// Of the dims' attributes bits, group, mode; dense where they have none.
Format format_of(const spec::Dims& dims);
std::string mlx_mode(const Format& format);  // "affine", "mxfp4", "mxfp8", "nvfp4"

// Whether MLX has the format, for rows of k columns.
bool is_format(const Format& format, int64_t k);
// What is wrong with the format for rows of k columns, with what to do; empty: nothing.
std::string why_not(const Format& format, int64_t k);

// One matrix of n rows, as a call has it: arrays of the ports (dense: codes alone).
struct Stored {
  const void *codes, *scales, *biases;
};

// Random weights of a magnitude of about 0.02, as quantising a model gives them.
void fill_weights(const Format& format, spec::Dtype t, int64_t n, int64_t k,
                  const std::vector<void*>& arrays, base::Random& random);

// One row in float64: w, and the magnitudes of the terms it is made of, |scale code| + |bias|.
struct Row64 {
  std::vector<double> w, magnitudes;
};
Row64 row_of(const Format& format, const Stored& stored, spec::Dtype t, int64_t row, int64_t k);

}  // namespace mlx_kd::kernels::matmul

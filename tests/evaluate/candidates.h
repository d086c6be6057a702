// Candidates of rmsnorm in float32 whose source is a small one of our own, honest or not.
#pragma once

#include <string>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/evaluate/evaluator.h"
#include "mlx_kd/evaluate/evaluators/verify_candidates.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::evaluate {

// `globals` before the function; `before` and `after` around its work. x, w, y, d, first and last
// element of the call (row-major) are in scope.
inline std::string rmsnorm_source(const std::string& before, const std::string& after = "",
                                  const std::string& globals = "") {
  return globals + R"(
extern "C" void mlx_kd_rmsnorm(const void* const* in, void* const* out, const long* dims,
                               const double* params, long begin, long end) {
  const float* x = (const float*)in[0];
  const float* w = (const float*)in[1];
  float* y = (float*)out[0];
  const long d = dims[1], first = begin * d, last = end * d - 1;
  (void)first; (void)last;
  )" + before +
         R"(
  for (long row = begin; row < end; ++row) {
    double sum = 0;
    for (long j = 0; j < d; ++j) sum += double(x[row * d + j]) * x[row * d + j];
    const float scale = float(1 / __builtin_sqrt(sum / d + params[0]));
    for (long j = 0; j < d; ++j) y[row * d + j] = w[j] * (x[row * d + j] * scale);
  }
  )" + after +
         "\n}\n";
}

inline std::vector<spec::Dims> small_sizes() {
  return {{{"rows", 4}, {"D", 320}}, {{"rows", 3}, {"D", 129}}};
}

inline spec::Candidate rmsnorm_candidate(const std::string& source) {
  const spec::Op& op = kernels::find_op("rmsnorm");
  const auto device = devices::open_device("cpu");
  spec::Candidate result = sample_candidates(op, device->languages(), device->id().traits,
                                             spec::Dtype::float32, small_sizes().front(), 0, 0)
                               .front();
  result.source = source;
  return result;
}

inline std::unique_ptr<Evaluator> rmsnorm_evaluator(EvaluateOptions options = {},
                                                    std::vector<spec::Dims> sizes = small_sizes()) {
  options.worker_program = MLX_KD_PROGRAM;
  return make_evaluator({&kernels::find_op("rmsnorm"), "cpu", spec::Dtype::float32, sizes},
                        options);
}

inline std::vector<spec::Verdict> verdicts(Evaluator& evaluator,
                                           const std::vector<spec::Candidate>& batch) {
  std::vector<spec::Verdict> result;
  evaluator.evaluate(batch, [&](size_t, const spec::Verdict& v) { result.push_back(v); });
  return result;
}

}  // namespace mlx_kd::evaluate

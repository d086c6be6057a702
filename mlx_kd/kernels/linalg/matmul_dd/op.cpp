// Products of matrices as sums of two floats.
#include <mlx/ops.h>

#include <algorithm>
#include <cmath>

#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/linalg/matrices.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {
namespace matmul_dd {
namespace {

using spec::Dims;
using spec::Dtype;
namespace mx = mlx::core;

// On a CPU: the product in float64, split in two.
spec::Op::Arrays composition(const spec::Op::Arrays& in, std::span<const double>,
                             const mx::Stream&) {
  const mx::Stream s = mx::default_stream(mx::Device::cpu);
  const mx::array product =
      mx::matmul(mx::astype(in[0], mx::float64, s), mx::astype(in[1], mx::float64, s), s);
  const mx::array hi = mx::astype(product, mx::float32, s);
  const mx::array rest = mx::subtract(product, mx::astype(hi, mx::float64, s), s);
  return {hi, mx::astype(rest, mx::float32, s)};
}

spec::Space space(Dtype, const spec::DeviceTraits& traits) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"ROWS", {4, 2, 8, 16}, log2, source, "rows of a tile"},
                 {"TILE", {1, 2, 4}, log2, source, "vectors of its columns"}};
  add_thread_knobs(space, traits, {1, 4, 16}, "tiles of rows at least");
  space.constraints.push_back({"a tile has at most 16 vectors",
                               {"ROWS", "TILE"},
                               [](const int64_t* v) { return v[0] * v[1] <= 16; }});
  return space;
}

spec::Launch launch(const Dims& dims, const spec::Setting& knobs) {
  return share_units(dims.at("batch") * divide_up(dims.at("m"), knobs.at("ROWS")), knobs);
}

double flops(const Dims& dims) {
  return 2 * static_cast<double>(dims.at("m") * dims.at("k") * dims.at("n"));
}

void fill_with_magnitudes(const spec::FillRequest& request) {
  base::Random random(request.seed * 41 + static_cast<uint64_t>(request.distribution));
  const Dims& d = request.dims;
  const bool wide = request.distribution == spec::Distribution::magnitudes;
  const auto fill = [&](void* data, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const double size = wide ? std::exp2(std::floor(24 * random.uniform() - 12)) : 1;
      spec::store_element(data, i, Dtype::float32,
                          static_cast<float>(size * (2 * random.uniform() - 1)));
    }
  };
  fill(request.inputs[0], d.at("batch") * d.at("m") * d.at("k"));
  fill(request.inputs[1], d.at("batch") * d.at("k") * d.at("n"));
}

// float64's own roundings are 2^-5 of what is allowed.
std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  const int64_t m = judged.dims.at("m"), k = judged.dims.at("k"), n = judged.dims.at("n");
  double worst = 0, overlap = 0;
  for (const int64_t each : linalg::judged_matrices(judged)) {
    const linalg::Matrix a = linalg::read(judged.inputs[0], each, m, k, judged.t),
                         b = linalg::read(judged.inputs[1], each, k, n, judged.t),
                         hi = linalg::read(judged.outputs[0], each, m, n, judged.t),
                         lo = linalg::read(judged.outputs[1], each, m, n, judged.t);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double exact = 0, sizes = 0;
        for (int64_t p = 0; p < k; ++p) {
          const double term = a.row(i)[p] * b.row(p)[j];
          exact += term, sizes += std::fabs(term);
        }
        const double high = hi.row(i)[j], low = lo.row(i)[j];
        const double allowed = std::max((static_cast<double>(k) + 2) * 0x1p-48 * sizes, 1e-300);
        linalg::take(worst, std::fabs(high + low - exact) / allowed);
        overlap += static_cast<double>(static_cast<float>(high + low)) != high;
      }
  }
  return {{"|hi + lo - a b| / ((k + 2) 2^-48 sum |a_i b_i|)", worst, 3},
          {"the count of elements whose hi is not hi + lo rounded", overlap, 0}};
}

Dims size(int64_t batch, int64_t m, int64_t k, int64_t n) {
  return {{"batch", batch}, {"m", m}, {"k", k}, {"n", n}};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The product of each pair of matrices of a batch in twice float32's precision: hi + lo, "
      "where hi "
      "is the sum rounded to float32.";
  doc.parameters = {{"a", "[..., m, k], float32"},
                    {"b", "[..., k, n], float32, with the leading axes of a"}};
  doc.returns =
      "hi and lo, [..., m, n]: |hi + lo - a b| is at most 3 (k + 2) 2^-48 times the sum of the "
      "magnitudes of the terms. Sums that overflow, and terms below 2^-102, are not covered.";
  doc.errors = "a or b is not float32, or they do not go together.";
  return doc;
}

}  // namespace
}  // namespace matmul_dd

spec::Op make_matmul_dd() {
  using namespace matmul_dd;
  spec::Op op = linalg::op_on(
      {.name = "matmul_dd",
       .summary = "products of a batch of matrices as sums of two floats",
       .inputs = {linalg::floats("a", {"m", "k"}), linalg::floats("b", {"k", "n"})},
       .outputs = {linalg::floats("hi", {"m", "n"}), linalg::floats("lo", {"m", "n"})},
       .dims = {{"m"}, {"k"}, {"n"}},
       .flops = flops});
  op.types = {Dtype::float32};
  op.doc = doc();
  op.suites = {
      {"batches", {size(64, 64, 64, 64), size(16, 128, 128, 128), size(1, 512, 512, 512)}}};
  op.edge_sizes = {size(1, 1, 1, 1), size(3, 5, 7, 9), size(2, 17, 33, 40), size(1, 4, 300, 16)};
  op.composition = composition;
  op.fill = fill_with_magnitudes;
  op.residuals = matmul_dd::residuals;
  op.variants = {{.name = "tiles",
                  .language = "cpp",
                  .source = kernel_source("linalg/matmul_dd/matmul_dd.cpu.cpp"),
                  .func_name = "mlx_kd_matmul_dd",
                  .launch_kind = "cpp_arguments",
                  .space = space,
                  .launch = launch}};
  return op;
}

}  // namespace mlx_kd::kernels

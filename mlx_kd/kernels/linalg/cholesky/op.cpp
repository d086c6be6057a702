#include <mlx/linalg.h>
#include <mlx/ops.h>

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/linalg/cholesky/residuals.h"
#include "mlx_kd/kernels/linalg/systems.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_cholesky();

namespace cholesky {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;
namespace mx = mlx::core;

constexpr int64_t kLine = 16;  // floats of a cache line, as in the source

Dims complete(const Dims& dims) {
  if (dims.at("upper") > 1)
    base::misuse("kernels", "upper is " + std::to_string(dims.at("upper")) + ": give 0 or 1");
  return dims;
}

Shape matrices(const Dims& dims) {
  return {dims.at("batch"), dims.at("n"), dims.at("n")};
}

// On a CPU. It takes float32 and float64, and reports no failure: it is not a form of the operator.
spec::Op::Arrays composition(const spec::Op::Arrays& in, std::span<const double> numbers,
                             const mx::Stream&) {
  const mx::Stream s = mx::default_stream(mx::Device::cpu);
  const mx::Shape& shape = in[0].shape();
  const mx::array a = in[0].dtype() == mx::float64 ? in[0] : mx::astype(in[0], mx::float32, s);
  const mx::array l = mx::linalg::cholesky(a, numbers[0] != 0, s);
  return {mx::astype(l, in[0].dtype(), s),
          mx::zeros({shape.begin(), shape.end() - 2}, mx::int32, s)};
}

spec::Cost cost(const Dims& dims, Dtype dtype) {
  const auto n = static_cast<double>(dims.at("n")), batch = static_cast<double>(dims.at("batch"));
  const double bytes = (n * (n + 1) / 2 + n * n) * static_cast<double>(spec::size_of(dtype)) + 4;
  return {batch * bytes, batch * n * n * n / 3};
}

spec::Space space(Dtype t, const spec::DeviceTraits& device) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  const spec::DeviceTraits traits = linalg::traits_for(t, device);
  const bool wide = traits.vector_bytes >= 64;
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"ROWS", wide ? std::vector<int64_t>{8, 4, 16} : std::vector<int64_t>{4, 8}, log2,
                  source, "rows that are updated together"},
                 {"TILE", wide ? std::vector<int64_t>{2, 1, 4} : std::vector<int64_t>{1, 2}, log2,
                  source, "sixteens of columns that are updated together"},
                 {"BLOCK", {64, 32, 128, 256}, log2, source, "rows of a panel"}};
  add_thread_knobs(space, traits, {4, 1, 2, 8, 16, 64}, "matrices at least");
  space.knobs.push_back(
      {"SPLIT", {256, 128, 384, 1024}, linear, launch, "columns from which threads share one"});
  space.constraints.push_back({"at most 32 vectors are updated together",
                               {"ROWS", "TILE", "VEC"},
                               [](const int64_t* v) { return v[0] * v[1] * (64 / v[2]) <= 32; }});
  space.constraints.push_back({"SPLIT is 256 where THREADS is 1: it has no effect",
                               {"THREADS", "SPLIT"},
                               [](const int64_t* v) { return v[0] > 1 || v[1] == 256; }});
  return space;
}

bool is_shared(const Dims& dims, const spec::Setting& knobs) {
  return dims.at("batch") < knobs.at("THREADS") && dims.at("n") >= knobs.at("SPLIT");
}

// Matrices of a task: so many that each thread has at most four tasks, each with its scratch.
int64_t grain_of(const Dims& dims, const spec::Setting& knobs) {
  return std::max(knobs.at("GRAIN"), divide_up(dims.at("batch"), 4 * knobs.at("THREADS")));
}

spec::Stage stage(const char* function, int64_t units, int64_t threads, int64_t index) {
  spec::Stage result{function, {}, index};
  result.launch.grid[0] = units;
  result.launch.threads = static_cast<int>(std::clamp<int64_t>(units, 1, threads));
  return result;
}

std::vector<spec::Stage> shared_stages(const Dims& dims, const spec::Setting& knobs) {
  const int64_t batch = dims.at("batch"), threads = knobs.at("THREADS");
  const int64_t block = knobs.at("BLOCK"), tile = knobs.at("TILE") * kLine;
  const int64_t sixteens = divide_up(dims.at("n"), kLine), columns = sixteens * kLine;
  std::vector<spec::Stage> stages = {stage("mlx_kd_cholesky_load", batch * sixteens, threads, 0)};
  for (int64_t from = 0; from < columns; from += block) {
    stages.push_back(stage("mlx_kd_cholesky_panel", batch, threads, from));
    if (const int64_t right = columns - from - block; right > 0)
      stages.push_back(
          stage("mlx_kd_cholesky_columns", batch * divide_up(right, tile), threads, from));
  }
  stages.push_back(stage("mlx_kd_cholesky_store", batch * sixteens, threads, 0));
  return stages;
}

std::vector<spec::Stage> stages(const Dims& dims, const spec::Setting& knobs) {
  if (is_shared(dims, knobs)) return shared_stages(dims, knobs);
  const int64_t batch = dims.at("batch"), grain = grain_of(dims, knobs);
  spec::Stage whole{"mlx_kd_cholesky", {}, grain};
  whole.launch.grid[0] = batch;
  whole.launch.group[0] = grain;
  whole.launch.threads =
      static_cast<int>(std::clamp<int64_t>(divide_up(batch, grain), 1, knobs.at("THREADS")));
  return {whole};
}

// The float copies that are factored, each with room for rows apart and for the inverses.
std::vector<int64_t> scratch(Dtype t, const Dims& dims, const spec::Setting& knobs) {
  const int64_t columns = divide_up(dims.at("n"), kLine) * kLine;
  const int64_t works = is_shared(dims, knobs) ? dims.at("batch")
                                               : divide_up(dims.at("batch"), grain_of(dims, knobs));
  return {works * columns * (columns + 2 * kLine) * linalg::word_of(t)};
}

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {{"THREADS", {256, 32, 64, 128, 512, 1024}, log2, source, "threads of a matrix"},
                 {"BLOCK", {16, 8, 32}, log2, source, "columns of a panel"}};
  return space;
}

// A threadgroup for each matrix.
spec::Launch launch_metal(const Dims& dims, const spec::Setting& knobs) {
  spec::Launch launch;
  launch.group[0] = knobs.at("THREADS");
  launch.grid[0] = dims.at("batch") * knobs.at("THREADS");
  return launch;
}

// The float copies that are factored.
std::vector<int64_t> scratch_metal(Dtype, const Dims& dims, const spec::Setting&) {
  return {dims.at("batch") * dims.at("n") * dims.at("n") * 4};
}

// ---- in CUDA C++

constexpr int64_t kCudaBlock = 32, kCudaRows = 256;  // columns of a panel, rows of a group

std::vector<spec::Stage> cuda_stages(const Dims& dims, const spec::Setting& knobs) {
  constexpr int64_t kWarps = kCudaRows / 32;
  const int64_t n = dims.at("n"), blocks = divide_up(n, kCudaBlock);
  const int64_t bytes = linalg::cuda_bytes(n, n, 0);
  if (linalg::fits_on_cuda(bytes, knobs))
    return {linalg::cuda_group("mlx_kd_cholesky", dims, n, bytes, knobs)};
  const auto stage = [&](const char* function, int64_t units, int64_t index = 0, int64_t more = 1) {
    return linalg::cuda_stage(function, dims, kWarps, units, index, more);
  };
  std::vector<spec::Stage> stages = {stage("mlx_kd_cholesky_load", blocks)};
  for (int64_t right = blocks - 1; right > 0; --right) {
    const int64_t p = (blocks - 1 - right) * kCudaBlock;
    const int64_t groups = divide_up(right * kCudaBlock, kCudaRows);
    stages.push_back(stage("mlx_kd_cholesky_panel", groups, p));
    stages.push_back(stage("mlx_kd_cholesky_columns", right, p, groups));
  }
  stages.push_back(stage("mlx_kd_cholesky_store", blocks));
  return stages;
}

spec::Variant cuda_variant() {
  spec::Variant variant = linalg::cuda_variant({.op = "cholesky"});
  variant.stages = cuda_stages;
  return variant;
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The Cholesky factor of each symmetric positive definite matrix of a batch, and which "
      "matrices have none. The matrix is L L^T, or U^T U with upper; only the lower triangle is "
      "read, or the upper one. 16-bit types are factored in float32 and rounded once; "
      "float64 is for CPUs.";
  doc.parameters = {{"a", "[..., n, n]"}, {"upper", "whether U is returned rather than L"}};
  doc.returns =
      "The factor, whose other triangle is 0, and info, int32 [...]: 0, or the order of the first "
      "leading minor that is not positive. A matrix that has no factor gives NaN alone; the others "
      "of the batch are not affected.";
  doc.errors = "a is not of a floating-point type, or its last two axes differ.";
  return doc;
}

Dims size(int64_t batch, int64_t n, int64_t upper = 0) {
  return {{"batch", batch}, {"n", n}, {"upper", upper}};
}

std::vector<spec::Variant> variants() {
  return {{.name = "blocks",
           .language = "cpp",
           .source = kernel_source("linalg/cholesky/cholesky.cpu.cpp"),
           .func_name = "mlx_kd_cholesky",
           .launch_kind = "cpp_arguments",
           .space = space,
           .stages = stages,
           .scratch = scratch},
          {.name = "panels",
           .language = "metal",
           .source = kernel_source("linalg/cholesky/cholesky.metal"),
           .func_name = "mlx_kd_cholesky",
           .launch_kind = "metal_groups",
           .space = metal_space,
           .launch = launch_metal,
           .scratch = scratch_metal},
          cuda_variant()};
}

}  // namespace
}  // namespace cholesky

spec::Op make_cholesky() {
  using namespace cholesky;
  using spec::Judge;
  spec::Op op;
  op.name = "cholesky";
  op.summary = "Cholesky factors of a batch of matrices, and which of them have none";
  op.doc = doc();
  op.inputs = {{"a", matrices}};
  op.outputs = {{"l", matrices, {}, Judge::residuals},
                {"info", [](const Dims& dims) { return Shape{dims.at("batch")}; }, Dtype::int32,
                 Judge::residuals}};
  op.dims = {{"batch", spec::Dim::Kind::dim, true, true},
             {"n"},
             {.name = "upper", .kind = spec::Dim::Kind::attribute}};
  op.batch_dim = "batch";
  op.types.push_back(Dtype::float64);
  op.suites = {{"batches", {size(64, 32), size(64, 64), size(64, 128)}},
               {"small", {size(1024, 4), size(1024, 8), size(256, 16), size(1024, 32)}},
               {"single", {size(1, 64), size(1, 128), size(1, 256), size(1, 512)}}};
  op.edge_sizes = {size(1, 1),     size(5, 3),   size(9, 16, 1), size(4, 17),
                   size(3, 65, 1), size(2, 100), size(1, 130),   size(1, 257, 1)};
  op.complete = complete;
  op.cost = cost;
  op.composition = composition;
  op.gradient.by = spec::Gradient::By::none;
  op.fill = cholesky::fill;
  op.residuals = cholesky::residuals;
  op.variants = variants();
  return op;
}

}  // namespace mlx_kd::kernels

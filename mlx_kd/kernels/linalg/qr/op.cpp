#include <mlx/linalg.h>
#include <mlx/ops.h>

#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/linalg/matrices.h"
#include "mlx_kd/kernels/linalg/qr/on_cuda.h"
#include "mlx_kd/kernels/linalg/qr/residuals.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_qr();

namespace qr {
namespace {

using spec::Dims;
using spec::Dtype;
namespace mx = mlx::core;

// On a CPU, where MLX has the reduced form alone; that of [A, I] has the others.
spec::Op::Arrays composition(const spec::Op::Arrays& in, std::span<const double> numbers,
                             const mx::Stream&) {
  const mx::Stream s = mx::default_stream(mx::Device::cpu);
  const mx::array& a = in[0];
  const int m = a.shape(-2), n = a.shape(-1);
  const bool is_complete = static_cast<int64_t>(numbers[0]) == kComplete;
  mx::Shape square = a.shape();
  square.back() = m;
  mx::array whole = a;
  if (is_complete) whole = mx::concatenate({a, mx::broadcast_to(mx::eye(m, s), square, s)}, -1, s);
  const auto [q, r] = mx::linalg::qr(whole, s);
  const mx::array info = linalg::no_info(a, s);
  if (!is_complete) return {q, r, info};
  mx::Shape stop = r.shape();
  stop.back() = n;
  return {q, mx::slice(r, mx::Shape(r.ndim(), 0), stop, s), info};
}

double flops(const Dims& dims) {
  const auto m = static_cast<double>(dims.at("m")), n = static_cast<double>(dims.at("n"));
  const double k = std::min(m, n), wide = static_cast<double>(q_columns(dims));
  const double of_r = 2 * k * k * (std::max(m, n) - k / 3);
  return of_r +
         (dims.at("mode") == kOnlyR ? 0 : 2 * k * (2 * m * wide - k * (m + wide) + 2 * k * k / 3));
}

// ---- how the kernels on a CPU share the work

enum class Way { lanes, whole, shared, tall };

int64_t lane_count(const spec::Setting& knobs) {
  return knobs.at("VEC") / 4;
}

Way way_of(const Dims& dims, const spec::Setting& knobs) {
  const int64_t batch = dims.at("batch"), m = dims.at("m"), n = dims.at("n");
  const int64_t few = knobs.at("LANES"), height = std::max(knobs.at("HEIGHT"), n);
  if (m <= few && n <= few && batch >= lane_count(knobs)) return Way::lanes;
  if (batch < knobs.at("THREADS") && m >= 4 * height && m >= 8 * n && dims.at("mode") != kComplete)
    return Way::tall;
  return linalg::is_shared(batch, std::min(m, n), knobs) ? Way::shared : Way::whole;
}

// Floats of a matrix in work, and of its panels, as panels.cpu.h has them.
int64_t w_floats(int64_t m, int64_t n, int64_t wide, const spec::Setting& knobs) {
  return linalg::padded(m, knobs) * linalg::stride_of(linalg::padded(std::max(n, wide), knobs));
}
int64_t v_floats(int64_t m, int64_t n, const spec::Setting& knobs) {
  return linalg::padded(std::min(m, n), knobs) * (linalg::padded(m, knobs) + knobs.at("PANEL"));
}

std::vector<spec::Stage> shared_stages(const Dims& dims, const spec::Setting& knobs) {
  const int64_t batch = dims.at("batch"), panel = knobs.at("PANEL"), block = knobs.at("BLOCK");
  const int64_t columns = linalg::padded(dims.at("n"), knobs);
  const int64_t steps = linalg::padded(std::min(dims.at("m"), dims.at("n")), knobs);
  const int64_t wide = linalg::padded(q_columns(dims), knobs), tile = linalg::tile_columns(knobs);
  std::vector<spec::Stage> stages = {
      linalg::stage_of("mlx_kd_qr_measure", batch, knobs),
      linalg::stage_of("mlx_kd_qr_load", batch * linalg::padded(dims.at("m"), knobs) / panel,
                       knobs)};
  for (int64_t from = 0; from < steps; from += block) {
    stages.push_back(linalg::stage_of("mlx_kd_qr_panel", batch, knobs, from));
    if (const int64_t right = columns - std::min(from + block, steps); right > 0)
      stages.push_back(
          linalg::stage_of("mlx_kd_qr_columns", batch * divide_up(right, tile), knobs, from));
  }
  stages.push_back(linalg::stage_of("mlx_kd_qr_r", batch * wide / panel, knobs));
  if (dims.at("mode") != kOnlyR)
    stages.push_back(linalg::stage_of("mlx_kd_qr_q", batch * divide_up(wide, tile), knobs));
  return stages;
}

struct Tall {
  int64_t height, blocks, units, grain;
};
Tall tall_of(const Dims& dims, const spec::Setting& knobs) {
  const int64_t height = std::max(knobs.at("HEIGHT"), dims.at("n"));
  const int64_t blocks = divide_up(dims.at("m"), height), units = dims.at("batch") * blocks;
  return {height, blocks, units, linalg::grain_of(units, knobs)};
}

std::vector<spec::Stage> tall_stages(const Dims& dims, const spec::Setting& knobs) {
  const Tall tall = tall_of(dims, knobs);
  spec::Stage rows = linalg::whole_stage("mlx_kd_qr_rows", tall.units, knobs);
  rows.index |= tall.height << 32;
  spec::Stage top = linalg::stage_of("mlx_kd_qr_top", dims.at("batch"), knobs, rows.index);
  spec::Stage back = rows;
  back.func_name = "mlx_kd_qr_back";
  if (dims.at("mode") == kOnlyR) return {rows, top};
  return {rows, top, back};
}

std::vector<spec::Stage> stages(const Dims& dims, const spec::Setting& knobs) {
  switch (way_of(dims, knobs)) {
    case Way::lanes:
      return {linalg::whole_stage("mlx_kd_qr_lanes", divide_up(dims.at("batch"), lane_count(knobs)),
                                  knobs)};
    case Way::shared:
      return shared_stages(dims, knobs);
    case Way::tall:
      return tall_stages(dims, knobs);
    case Way::whole:
      break;
  }
  return {linalg::whole_stage("mlx_kd_qr", dims.at("batch"), knobs)};
}

std::vector<int64_t> scratch(Dtype t, const Dims& dims, const spec::Setting& knobs) {
  const int64_t word = linalg::word_of(t);
  const int64_t batch = dims.at("batch"), m = dims.at("m"), n = dims.at("n");
  const int64_t wide = q_columns(dims), w = w_floats(m, n, wide, knobs), v = v_floats(m, n, knobs);
  switch (way_of(dims, knobs)) {
    case Way::lanes: {
      const int64_t groups = divide_up(batch, lane_count(knobs));
      return {linalg::tasks_of(groups, knobs) * lane_count(knobs) * word *
                  (m * n + m * wide + wide * n + std::min(m, n)),
              0};
    }
    case Way::shared:
      return {word * batch * w, word * batch * (v + knobs.at("PANEL"))};
    case Way::tall: {
      const Tall tall = tall_of(dims, knobs);
      const int64_t rows = tall.blocks * n;
      return {word * linalg::tasks_of(tall.units, knobs) * w_floats(tall.height, n, n, knobs),
              word * tall.units * v_floats(tall.height, n, knobs), word * batch * rows * n,
              word * batch * (w_floats(rows, n, n, knobs) + v_floats(rows, n, knobs))};
    }
    case Way::whole:
      break;
  }
  const int64_t tasks = linalg::tasks_of(batch, knobs);
  return {word * tasks * w, word * tasks * v};
}

spec::Space space(Dtype t, const spec::DeviceTraits& traits) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space = linalg::block_space(t, traits, {16, 8, 32});
  space.knobs.push_back({"LANES",
                         {24, 0, 8, 16, 32},
                         linear,
                         launch,
                         "the most rows and columns of matrices that share vectors"});
  space.knobs.push_back(
      {"HEIGHT", {1024, 512, 2048, 4096}, log2, launch, "rows of a block of a tall matrix"});
  space.constraints.push_back({"HEIGHT is 1024 where THREADS is 1: it has no effect",
                               {"THREADS", "HEIGHT"},
                               [](const int64_t* v) { return v[0] > 1 || v[1] == 1024; }});
  return space;
}

// ---- in Metal

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {linalg::metal_threads(),
                 {"PARTS", {4, 1, 2, 8}, log2, source, "threads of a column"},
                 {"HELD",
                  {4096, 1024, 6144},
                  linear,
                  source,
                  "floats of a matrix in threadgroup memory at most"}};
  return space;
}

spec::Launch launch_metal(const Dims& dims, const spec::Setting& knobs) {
  return linalg::launch_groups(dims.at("batch"), knobs);
}

// The matrix, if it is not held in threadgroup memory.
std::vector<int64_t> scratch_metal(Dtype, const Dims& dims, const spec::Setting&) {
  return {dims.at("batch") * (dims.at("m") + 2) * dims.at("n") * 4};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The QR factorisation of each matrix of a batch, by Householder's reflections: A = Q R with "
      "orthonormal columns of Q and an upper triangular R. The diagonal of R has any sign.";
  doc.parameters = {{"a", "[..., m, n], float32 or, on a CPU, float64"},
                    {"mode",
                     "0: reduced, k = min(m, n) columns of Q; 1: complete, k = m; 2: R of the "
                     "reduced form alone"}};
  doc.returns =
      "Q [..., m, k], without elements in mode 2, R [..., k, n], and info, int32 [...]: 0, or the "
      "first column of A, from 1, that has a NaN or an infinity; Q and R of such a matrix are NaN.";
  doc.errors = "a is of another type, has fewer than two axes, or mode is above 2.";
  return doc;
}

Dims size(int64_t batch, int64_t m, int64_t n, int64_t mode = kReduced) {
  return {{"batch", batch}, {"m", m}, {"n", n}, {"mode", mode}};
}

std::vector<spec::Port> output_ports() {
  spec::Port q = linalg::floats("q", {}), r = q;
  r.name = "r";
  q.shape = [](const Dims& dims) {
    return spec::Shape{dims.at("batch"), dims.at("m"),
                       dims.at("mode") == kOnlyR ? 0 : q_columns(dims)};
  };
  r.shape = [](const Dims& dims) {
    return spec::Shape{dims.at("batch"), q_columns(dims), dims.at("n")};
  };
  return {q, r, linalg::integers("info", {})};
}

std::vector<spec::Variant> variants() {
  return {{.name = "panels",
           .language = "cpp",
           .source = kernel_source("linalg/qr/qr.cpu.cpp"),
           .func_name = "mlx_kd_qr",
           .launch_kind = "cpp_arguments",
           .space = space,
           .stages = stages,
           .scratch = scratch},
          {.name = "columns",
           .language = "metal",
           .source = kernel_source("linalg/qr/qr.metal"),
           .func_name = "mlx_kd_qr",
           .launch_kind = "metal_groups",
           .space = metal_space,
           .launch = launch_metal,
           .scratch = scratch_metal},
          cuda_variant()};
}

}  // namespace
}  // namespace qr

spec::Op make_qr() {
  using namespace qr;
  spec::Op op = linalg::op_on({.name = "qr",
                               .summary = "QR factorisations of a batch of matrices",
                               .inputs = {linalg::floats("a", {"m", "n"})},
                               .outputs = output_ports(),
                               .dims = {{"m"}, {"n"}, linalg::attribute("mode")},
                               .flops = flops});
  op.doc = doc();
  op.suites = linalg::square_suites({"m", "n"}, {{"mode", kReduced}});
  op.suites.push_back({"tall", {size(1, 100000, 32), size(64, 512, 32)}});
  op.edge_sizes = {size(5, 1, 1),
                   size(21, 3, 5),
                   size(18, 7, 4, kComplete),
                   size(6, 17, 33),
                   size(5, 40, 16, kOnlyR),
                   size(3, 70, 30, kComplete),
                   size(5, 100, 100),
                   size(17, 24, 24, kOnlyR),
                   size(1, 140, 300),
                   size(1, 300, 280, kComplete),
                   size(1, 4200, 5)};
  op.complete = [](const Dims& dims) {
    linalg::check_choice("qr", dims, "mode", 2, "0 (reduced), 1 (complete) or 2 (R alone)");
    return dims;
  };
  op.composition = composition;
  op.fill = [](const spec::FillRequest& request) {
    linalg::fill_matrices(request, request.dims.at("m"), request.dims.at("n"), false);
  };
  op.residuals = qr::residuals;
  op.variants = variants();
  return op;
}

}  // namespace mlx_kd::kernels

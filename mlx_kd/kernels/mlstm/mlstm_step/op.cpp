// mlstm_step: one token of mLSTM, from state to state.
#include <algorithm>
#include <cmath>
#include <limits>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/mlstm/cells.h"
#include "mlx_kd/kernels/mlstm/composition.h"
#include "mlx_kd/kernels/mlstm/head64.h"
#include "mlx_kd/kernels/mlstm/reference.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_mlstm_step();

namespace mlstm_step {
namespace {

using mlstm::Doubles;
using spec::Dims;
using spec::Dtype;
using spec::Shape;
using enum spec::KnobScale;
using enum spec::KnobRole;

Dims complete(const Dims& dims) {
  Dims sequence = dims;
  for (const auto& [name, value] :
       {std::pair{"S", 1}, {"normalizer_grad", 1}, {"chunk", 0}, {"has_state", 1}})
    sequence.set(name, value);
  mlstm::complete_chunkwise("mlstm_step", sequence);
  return dims;
}

Shape key(const Dims& dims) {
  return {dims.at("heads"), dims.at("DHQK")};
}
Shape value(const Dims& dims) {
  return {dims.at("heads"), dims.at("DHHV")};
}

std::vector<spec::Port> inputs() {
  const Dtype state = Dtype::float32;
  return {{"q", key},
          {"k", key},
          {"v", value},
          {"i", mlstm::state_m, state},
          {"f", mlstm::state_m, state},
          {"c", mlstm::state_c, state},
          {"n", mlstm::state_n, state},
          {"m", mlstm::state_m, state}};
}
std::vector<spec::Port> outputs() {
  const Dtype state = Dtype::float32;
  return {{"h", value},
          {.name = "c_next", .shape = mlstm::state_c, .type = state, .updates = "c"},
          {"n_next", mlstm::state_n, state},
          {"m_next", mlstm::state_m, state}};
}

// ---- float64

struct Parts {
  double past, share, m, floor;  // of the state, of the token
  double size_of_m;
};

Parts parts_of(const std::vector<const void*>& in, int64_t head, bool siging) {
  const auto number = [&](size_t port) {
    return static_cast<double>(spec::load_element(in[port], head, Dtype::float32));
  };
  const mlstm::Gates64 g = mlstm::gates64({number(3)}, {number(4)}, siging ? 0 : number(7), siging);
  return {g.past[0], g.weight(0, 0), g.m[0], g.floor[0], g.size_of_m[0]};
}

// The state belongs to m as it is stored.
double stored(double size, double y, double m) {
  return size + std::fabs(y) * (std::isfinite(m) ? std::fabs(m) / 100 : 0);
}

void add_head(const std::vector<const void*>& in, Dtype t, const Dims& dims, double eps,
              int64_t head, std::vector<spec::Reference64>& to) {
  const int64_t qk = dims.at("DHQK"), hv = dims.at("DHHV");
  const Parts p = parts_of(in, head, dims.at("siging"));
  const Doubles q = mlstm::part64(in[0], head * qk, qk, t),
                k = mlstm::part64(in[1], head * qk, qk, t);
  const Doubles v = mlstm::part64(in[2], head * hv, hv, t);
  const Doubles c = mlstm::part64(in[5], head * qk * hv, qk * hv, Dtype::float32);
  const Doubles n = mlstm::part64(in[6], head * qk, qk, Dtype::float32);
  const double by = 1 / std::sqrt(static_cast<double>(qk));
  mlstm::Sums row(static_cast<size_t>(hv));
  mlstm::Summed r;
  for (size_t d = 0; d < k.size(); ++d) {
    const double share = p.share == 0 ? 0 : p.share * k[d];
    const double next = p.past * n[d] + share, size = std::fabs(p.past * n[d]) + std::fabs(share);
    append(to[2], {next, std::fabs(next), stored(size, next, p.m), 0x1p-120});
    r.add(by * q[d] * next, std::fabs(by * q[d]) * size);
    for (size_t e = 0; e < v.size(); ++e) {
      const double old = p.past * c[d * v.size() + e], made = share * v[e];
      const double sum = old + made, parts = std::fabs(old) + std::fabs(made);
      append(to[1], {sum, std::fabs(sum), stored(parts, sum, p.m), 0x1p-120});
      row[e].add(by * q[d] * sum, std::fabs(by * q[d]) * parts);
    }
  }
  const double largest = std::max(std::fabs(r.value), p.floor);
  const double inverse = dims.at("normalize") ? 1 / (largest + eps) : 1;
  const double spread = std::fabs(r.value) > p.floor ? r.size * inverse : 1;
  for (const mlstm::Summed& e : row) {
    const double h = e.value * inverse;
    append(to[0], {h, std::fabs(h), e.size * inverse + std::fabs(h) * spread, underflow(t)});
  }
  const double m = dims.at("siging") ? 0 : p.m;
  append(to[3], {m, std::fabs(m), dims.at("siging") ? 0 : p.size_of_m, 0});
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& in, Dtype t,
                                         const Dims& dims, const std::vector<double>& scalars) {
  std::vector<spec::Reference64> to(4);
  for (int64_t head = 0; head < dims.at("heads"); ++head)
    add_head(in, t, dims, scalars[0], head, to);
  saturate(to[0], t, mlstm::kAccumulated);
  return to;
}

// ---- CPU

spec::Space cpu_space(Dtype, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"BLOCK", {64, 16, 32, 128}, log2, source, "columns of the memory in a unit"},
                 {"PREFETCH", {4, 0, 2, 8, 16}, linear, source, "rows ahead that are fetched"}};
  add_thread_knobs(space, traits, {2, 1, 4, 8}, "units");
  return space;
}

spec::Launch launch_cpu(const Dims& dims, const spec::Setting& knobs) {
  return share_units(dims.at("heads") * divide_up(dims.at("DHHV"), knobs.at("BLOCK")), knobs);
}

// ---- Metal

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {
      {"THREADS", {64, 32, 128, 256, 16, 512, 8, 1024}, log2, source, "columns of a threadgroup"}};
  return space;
}

spec::Launch launch_metal(const Dims& dims, const spec::Setting& knobs) {
  const int64_t threads = knobs.at("THREADS");
  spec::Launch launch;
  launch.group[0] = threads;
  launch.grid[0] = dims.at("heads") * divide_up(dims.at("DHHV"), threads) * threads;
  return launch;
}

// ---- CUDA C++

spec::Space cuda_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {{"THREADS", {256, 128, 512}, log2, source, "threads of a group"},
                 {"COLUMNS", {32, 16, 64, 128}, log2, source, "columns of the memory of a group"},
                 {"ROWS", {8, 4, 2}, log2, source, "rows that a thread requests together"}};
  return space;
}

std::vector<spec::Stage> cuda_stages(const Dims& dims, const spec::Setting& knobs) {
  const int64_t columns = dims.at("DHHV"), threads = knobs.at("THREADS");
  spec::Stage stage{columns % 4 ? "mlx_kd_mlstm_step" : "mlx_kd_mlstm_step_4", {}, 0};
  stage.launch.group = {threads, 1, 1};
  stage.launch.grid = {dims.at("heads") * threads, divide_up(columns, knobs.at("COLUMNS")), 1};
  return {stage};
}

std::vector<spec::Variant> variants() {
  return {{"blocks", "cpp", kernel_source("mlstm/mlstm_step/mlstm_step.cpu.cpp"),
           "mlx_kd_mlstm_step", "cpp_arguments", cpu_space, launch_cpu},
          {"columns", "metal", kernel_source("mlstm/mlstm_step/mlstm_step.metal"),
           "mlx_kd_mlstm_step", "metal_groups", metal_space, launch_metal},
          {.name = "columns",
           .language = "cuda",
           .source = kernel_source("mlstm/mlstm_step/mlstm_step.cu"),
           .func_name = "mlx_kd_mlstm_step",
           .launch_kind = "cuda_arguments",
           .space = cuda_space,
           .stages = cuda_stages}};
}

Dims size(int64_t heads, int64_t qk, int64_t hv) {
  return {{"heads", heads}, {"DHQK", qk}, {"DHHV", hv}, {"siging", 0}, {"normalize", 1}};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "One token of mLSTM: the state c, n, m takes up k and v, and h is what q reads of it. The "
      "memory c is updated in place where nothing else holds it.";
  doc.parameters = {{"q", "[..., DHQK], scaled by 1 / sqrt(DHQK) inside"},
                    {"k", "[..., DHQK]"},
                    {"v", "[..., DHHV]"},
                    {"i", "[...], float32: input gate before exp or sigmoid"},
                    {"f", "[...], float32: forget gate before sigmoid"},
                    {"c", "[..., DHQK, DHHV], float32"},
                    {"n", "[..., DHQK], float32"},
                    {"m", "[...], float32"},
                    {"eps", "Added to the normaliser"},
                    {"siging", "1: the input gate is a sigmoid, and there is no m"},
                    {"normalize", "0: without a normaliser, with siging alone"}};
  doc.returns = "h [..., DHHV] in the type of q, and c, n and m after the token.";
  doc.errors = "Shapes that do not go together; heads wider than 4096.";
  return doc;
}

spec::ErrorBound bound(const Dims&) {
  return {mlstm::kAccumulated,
          "1e-5 of the terms: two weights, the state and sums over DHQK in "
          "float32; S has the terms of the row over N + eps and, times |h|, those "
          "of N"};
}

}  // namespace
}  // namespace mlstm_step

spec::Op make_mlstm_step() {
  using namespace mlstm_step;
  const auto attribute = spec::Dim::Kind::attribute;
  spec::Op op;
  op.name = "mlstm_step";
  op.summary = "one token of mLSTM: h, and the state after it";
  op.doc = doc();
  op.inputs = inputs();
  op.outputs = outputs();
  op.dims = {{.name = "heads", .leading = true, .free = true},
             {"DHQK"},
             {"DHHV"},
             {.name = "siging", .kind = attribute},
             {.name = "normalize", .kind = attribute, .default_value = 1}};
  op.batch_dim = "heads";
  op.scalars = {eps_scalar()};
  op.suites = {{"xlstm_7b", {size(8, 256, 512), size(32, 256, 512)}},
               {"small", {size(4, 64, 128), size(16, 64, 64)}}};
  op.edge_sizes = {size(1, 1, 1), size(3, 5, 70), size(2, 64, 128),
                   with(size(3, 7, 33), {{"siging", 1}}),
                   with(size(2, 17, 16), {{"siging", 1}, {"normalize", 0}})};
  op.complete = complete;
  op.cost = [in = op.inputs, out = op.outputs](const Dims& dims, Dtype t) {
    const auto c = static_cast<double>(dims.at("heads") * dims.at("DHQK") * dims.at("DHHV"));
    return spec::Cost{mlstm::bytes_of(in, out, t, dims), 5 * c};
  };
  op.composition = [](const spec::Op::Arrays& in, std::span<const double> numbers,
                      const mlx::core::Stream& s) {
    return mlstm::step_form(in, {numbers[0], numbers[1] != 0, numbers[2] != 0}, s);
  };
  op.fill = [ports = op.inputs](const spec::FillRequest& request) { mlstm::fill(request, ports); };
  op.reference = reference;
  op.bound = bound;
  op.variants = variants();
  return op;
}

}  // namespace mlx_kd::kernels

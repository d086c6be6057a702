#include "mlx_kd/kernels/activations/soft_cap/space.h"

#include <limits>

#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::soft_cap {
namespace {

using spec::Dims;
using spec::Dtype;
using enum spec::KnobScale;
using enum spec::KnobRole;

constexpr int64_t kUnit = 1024;  // elements, as in the source

spec::Space cpu_space(Dtype dtype, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"UNROLL", {4, 1, 2, 8}, log2, source, "steps a turn of the loop"},
                 {"DEGREE", {5, 4}, linear, source, "degree of the polynomial for 2^f - 1, over f"},
                 {"ESTRIN", {0, 1}, choice, source, "order of the polynomial", {"chain", "tree"}},
                 {"PREFETCH", {0, 512, 2048}, linear, source, "bytes ahead of the loop"}};
  if (is_x86(traits))
    space.knobs.push_back(
        {"DIVIDE", {0, 1}, choice, source, "how the quotient is found", {"divide", "newton"}});
  add_rounding_knob(space, dtype, traits);
  add_stream_knob(space, traits, {0, 1}, {"none", "the output"});
  add_thread_knobs(space, traits, {32, 4, 8, 16, 64, 128}, "blocks of 1024 elements");
  return space;
}

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  // One value, for the knob is part of what names a candidate: Metal's clamp, in front of its fast
  // tanh, makes a number of NaN.
  spec::Knob precise = fast_knob("hyperbolic tangent and quotient");
  precise.values = {0};
  precise.labels = {"precise"};
  space.knobs = {pack_knob(),
                 {"UNROLL", {1, 2, 4, 8}, log2, source, "packs of a thread"},
                 {"SPREAD",
                  {0, 1, 2},
                  choice,
                  source,
                  "packs of a thread lie",
                  {"a threadgroup apart", "a grid apart", "side by side"}},
                 {"STAGED", {0, 1}, choice, source, "packs are read", {"one by one", "at once"}},
                 precise,
                 group_knob()};
  for (const char* knob : {"SPREAD", "STAGED"})
    space.constraints.push_back({std::string(knob) + " matters only where UNROLL > 1",
                                 {knob, "UNROLL"},
                                 [](const int64_t* v) { return v[0] == 0 || v[1] > 1; }});
  return space;
}

spec::Launch launch_cpu(const Dims& dims, const spec::Setting& knobs) {
  return share_units(divide_up(dims.at("N"), kUnit), knobs);
}

spec::Launch launch_metal(const Dims& dims, const spec::Setting& knobs) {
  const int64_t each = knobs.at("VEC") * knobs.at("UNROLL");
  return launch_flat(divide_up(dims.at("N"), each), knobs);
}

}  // namespace

spec::Scalar cap_scalar() {
  return {"cap", 30, {30, 50}, 0, std::numeric_limits<float>::max(), true};
}

// The last logits of Gemma models, and scores of 8 and 16 heads over 4096 keys.
void add_sizes(spec::Op& op) {
  op.dims = {rows_dim(), {"D"}};
  op.batch_dim = "rows";
  op.scalars = {cap_scalar()};
  op.suites = {rows_suite("gemma_logits", kDecodeRows, 256000),
               rows_suite("gemma_scores", {8, 16, 512}, 4096)};
  op.edge_sizes = rows_edges();
  op.complete = [](const Dims& dims) {
    const int64_t rows = dims.at("rows"), d = dims.at("D");
    return Dims{{"rows", rows}, {"D", d}, {"N", rows * d}};
  };
}

std::vector<spec::Variant> variants(const std::string& name) {
  const std::string path = "activations/soft_cap/" + name, function = "mlx_kd_" + name;
  return {{"elements", "cpp", kernel_source(path + ".cpu.cpp"), function, "cpu_elements", cpu_space,
           launch_cpu},
          {"elements", "metal", kernel_source(path + ".metal"), function, "metal_flat", metal_space,
           launch_metal}};
}

}  // namespace mlx_kd::kernels::soft_cap

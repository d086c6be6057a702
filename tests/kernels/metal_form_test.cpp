// Metal variants: their spaces, and their form in packs.
#include "mlx_kd/kernels/metal_form.h"

#include <gtest/gtest.h>

#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/kernels/every_op.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dims;
using spec::Dtype;

const spec::Variant& metal_of(const std::string& op) {
  return *variant_in(find_op(op), "metal");
}

spec::Candidate candidate_of(const std::string& name, const spec::Setting& changed,
                             const Dims& dims, Dtype dtype = Dtype::float16) {
  const spec::Op& op = find_op(name);
  const spec::Variant& variant = metal_of(name);
  const spec::Space space = variant.space(dtype, {});
  spec::Setting knobs = spec::default_setting(space);
  for (const auto& [knob, value] : changed.items()) knobs.set(knob, value);
  EXPECT_TRUE(spec::is_valid(space, knobs)) << knobs.text();
  return spec::make_candidate(op, variant, dtype, knobs, space, dims);
}

std::vector<double> defaults_of(const spec::Op& op) {
  std::vector<double> params;
  for (const auto& input : op.scalars) params.push_back(input.default_value);
  return params;
}

spec::Candidate body_of(const std::string& name, const spec::Setting& knobs, const Dims& given) {
  const spec::Op& op = find_op(name);
  const Dims dims = spec::complete(op, given);
  return body_form(op, candidate_of(name, knobs, dims), dims, defaults_of(op)).value();
}

// Those that zmlx.kd knows: their winners are packed as bodies.
std::vector<std::string> ops_with_bodies() {
  std::vector<std::string> names;
  for (const std::string& name : ops_in("metal"))
    if (!metal_of(name).body.kind.empty()) names.push_back(name);
  return names;
}

const Dims kRows = {{"rows", 3}, {"D", 64}};
const Dims kHeads = {{"B", 2}, {"H_Q", 3}, {"D_NOPE", 32}, {"D_ROPE", 16}};

TEST(MetalLaunches, AreWholeThreadgroupsAtEverySize) {
  base::Random random(11);
  for (const std::string& name : ops_in("metal")) {
    const spec::Space space = metal_of(name).space(Dtype::float16, {});
    for (const Dims& dims : edge_sizes(find_op(name)))
      for (int i = 0; i < 8; ++i) {
        const spec::Setting knobs = random_setting(space, random);
        for (const spec::Stage& stage : spec::stages_of(metal_of(name), dims, knobs)) {
          const spec::Launch& launch = stage.launch;
          int64_t threads = 1;
          for (size_t axis = 0; axis < 3; ++axis) {
            EXPECT_EQ(launch.grid[axis] % launch.group[axis], 0) << name << " " << knobs.text();
            threads *= launch.group[axis];
          }
          EXPECT_LE(threads, 1024) << name << " " << knobs.text();
        }
      }
  }
}

// A knob that changed nothing would give two settings one text.
TEST(MetalSpaces, EachSourceSettingIsAnotherKernel) {
  base::Random random(3);
  for (const std::string& name : ops_with_bodies()) {
    const spec::Op& op = find_op(name);
    const spec::Variant& variant = metal_of(name);
    const spec::Space space = variant.space(Dtype::float16, {});
    const Dims dims = spec::complete(op, op.suites.front().sizes.front());
    std::set<std::string> settings, texts;
    for (int i = 0; i < 60; ++i) {
      const spec::Setting setting = random_setting(space, random);
      const auto candidate =
          spec::make_candidate(op, variant, Dtype::float16, setting, space, dims);
      spec::Setting source;
      for (const auto& [knob, value] : setting.items())
        if (!candidate.launch_params.contains(knob)) source.set(knob, value);
      settings.insert(source.text());
      texts.insert(body_form(op, candidate, dims, defaults_of(op))->source);
    }
    EXPECT_EQ(texts.size(), settings.size()) << op.name;
  }
}

TEST(MetalBodies, HoldKnobsSizesAndTheModelsNumbersAsConstants) {
  const spec::Candidate body = body_of("rmsnorm", {{"VEC", 8}, {"UNROLL", 2}}, kRows);
  EXPECT_EQ(body.source.rfind("constexpr float eps = 1e-06f;\nconstexpr int rows = 3;\n"
                              "constexpr int D = 64;\n",
                              0),
            0u)
      << body.source;
  for (const char* gone : {"VEC", "THREADS", "#if", "KD_DTYPE", "PACK_BYTES"})
    EXPECT_EQ(body.source.find(gone), std::string::npos) << gone << "\n" << body.source;
  EXPECT_NE(body.source.find("T at[8];"), std::string::npos) << body.source;
}

TEST(MetalBodies, AreNamedByTheirText) {
  const auto one = body_of("rmsnorm", {}, kRows);
  EXPECT_EQ(one.func_name, body_of("rmsnorm", {}, kRows).func_name);
  EXPECT_NE(one.func_name, body_of("rmsnorm", {{"VEC", 2}}, kRows).func_name);
  EXPECT_NE(one.func_name, body_of("rmsnorm", {}, {{"rows", 4}, {"D", 64}}).func_name);
  EXPECT_EQ(one.source.find(one.func_name), std::string::npos);
}

TEST(MetalBodies, AreLaunchedAsTheFirstVersionDoesWhereThatFits) {
  const auto params = [](const auto& name, const spec::Setting& knobs, const Dims& dims) {
    return body_of(name, knobs, dims).launch_params;
  };
  EXPECT_EQ(params("rmsnorm", {}, kRows)["launch_kind"], "rmsnorm_rows_tg");
  EXPECT_EQ(params("rmsnorm", {}, kRows)["threadgroup_x"], 256);
  EXPECT_EQ(params("rmsnorm_residual", {}, kRows)["launch_kind"], "rmsnorm_residual_rows_tg");
  const auto flat = params("swiglu", {{"VEC", 2}, {"UNROLL", 4}}, kRows);
  EXPECT_EQ(flat["launch_kind"], "swiglu_flat");
  EXPECT_EQ(flat["vec_width"], 2);
  EXPECT_EQ(flat["unroll"], 4);
  EXPECT_EQ(params("rope", {{"VEC", 1}}, kHeads)["launch_kind"], "rope_decode_pos");
  const auto shared = params("rmsnorm", {{"ROWS", 2}, {"THREADS", 64}}, kRows);
  EXPECT_EQ(shared["launch_kind"], "grid");
  EXPECT_EQ(shared["grid_x"], 256);
  EXPECT_EQ(shared["threadgroup_x"], 128);
  EXPECT_EQ(params("rope", {{"VEC", 4}}, kHeads)["launch_kind"], "grid");
}

TEST(MetalBodies, OfEverySettingKeepTheirLaunch) {
  base::Random random(5);
  for (const std::string& name : ops_with_bodies()) {
    const spec::Op& op = find_op(name);
    const spec::Variant& variant = metal_of(name);
    const spec::Space space = variant.space(Dtype::bfloat16, {});
    for (const spec::Suite& suite : op.suites) {
      const Dims dims = spec::complete(op, suite.sizes.back());
      const spec::Setting knobs = random_setting(space, random);
      const auto candidate = spec::make_candidate(op, variant, Dtype::bfloat16, knobs, space, dims);
      const auto body = body_form(op, candidate, dims, defaults_of(op));
      const int64_t elements = spec::element_count(op.inputs[0].shape(dims));
      const spec::Launch launch = body_launch(body->launch_params, dims, elements);
      const spec::Launch whole = variant.launch(dims, knobs);
      EXPECT_EQ(launch.group[0], std::min(whole.group[0], launch.grid[0])) << knobs.text();
      EXPECT_LE(launch.grid[0], whole.grid[0]) << op.name << " " << knobs.text();
      EXPECT_GT(launch.grid[0], whole.grid[0] - whole.group[0]) << op.name << " " << knobs.text();
    }
  }
}

TEST(MetalBodies, AreNotMadeForArraysThatMetalPassesElsewhere) {
  const spec::Op& op = find_op("rmsnorm");
  const Dims dims = {{"rows", 9}, {"D", 7}};
  EXPECT_FALSE(body_form(op, candidate_of("rmsnorm", {}, dims), dims, {1e-6}));
}

TEST(BodyLaunch, ReadsWhatTheFirstVersionWrites) {
  const auto grid = [](const base::Json& params, const Dims& dims, int64_t elements) {
    return body_launch(params, dims, elements).grid[0];
  };
  EXPECT_EQ(grid({{"launch_kind", "rmsnorm_rows_tg"}, {"threadgroup_x", 64}}, kRows, 192), 192);
  EXPECT_EQ(
      grid({{"launch_kind", "swiglu_flat"}, {"vec_width", 4}, {"unroll", 2}}, {{"N", 100}}, 100),
      13);
  EXPECT_EQ(grid({{"launch_kind", "rope_decode_pos"}}, {{"B", 2}, {"H_Q", 3}, {"D_OUT", 48}}, 1),
            384);
  EXPECT_EQ(grid({{"launch_kind", "something"}, {"grid_x", 77}}, kRows, 192), 77);
  EXPECT_EQ(grid(base::Json::object(), kRows, 192), 192);
  EXPECT_EQ(body_launch({{"threadgroup_x", 512}}, kRows, 192).group[0], 192);
  EXPECT_THROW(grid({{"grid_x", 0}}, kRows, 1), base::Error);
  EXPECT_THROW(grid({{"launch_kind", "rope_decode_pos"}}, kRows, 1), base::Error);
}

}  // namespace
}  // namespace mlx_kd::kernels

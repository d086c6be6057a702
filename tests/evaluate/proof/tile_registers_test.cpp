// Products of matrices, and attention, in tile registers: which processors are offered them, and
// wrong kernels that the proofs must reject. Processors without them compile no such kernel, and
// skip.
#include <algorithm>
#include <cstdlib>

#include "mlx_kd/devices/host/cpu_info.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/proof_rig.h"

namespace mlx_kd::evaluate::tile_registers_test {
namespace {

using spec::Dims;
using spec::Dtype;

const std::vector<std::string> kWithTiles = {"avx512f",  "avx512bf16", "avx512bw", "avx512dq",
                                             "avx512vl", "avx512vbmi", "amxbf16",  "amxtile"};

const spec::Variant& variant_of(const std::string& op, const std::string& name) {
  for (const spec::Variant& one : kernels::find_op(op).variants)
    if (one.language == "cpp" && one.name == name) return one;
  ADD_FAILURE() << op << " has no variant " << name;
  return kernels::find_op(op).variants.front();
}

spec::Space space_on(const std::vector<std::string>& isa, Dtype t, const spec::Variant& variant) {
  spec::DeviceTraits traits;
  traits.isa = isa;
  traits.vector_bytes = 64;
  traits.cores = 2;
  return variant.space(t, traits);
}

int64_t most_of(const spec::Space& space, const std::string& name) {
  for (const spec::Knob& knob : space.knobs)
    if (knob.name == name) return *std::max_element(knob.values.begin(), knob.values.end());
  return -1;
}

struct Place {
  const char *op, *variant;
};
constexpr Place kPlaces[] = {{"gemm", "tiles"},
                             {"qgemm", "tiles"},
                             {"gather_qgemm", "groups"},
                             {"matmul", "blocks"},
                             {"attention", "blocks"}};

TEST(TileRegisters, AreTheDefaultOfManyRowsWhereTheProcessorHasThem) {
  for (const Place& place : kPlaces) {
    const spec::Variant& variant = variant_of(place.op, place.variant);
    const spec::Space space = space_on(kWithTiles, Dtype::bfloat16, variant);
    const spec::Setting setting = spec::default_setting(space);
    EXPECT_EQ(setting.at("DOT"), 2) << place.op;
    EXPECT_TRUE(spec::is_valid(space, setting)) << place.op;
    EXPECT_LT(most_of(space_on(kWithTiles, Dtype::float16, variant), "DOT"), 2) << place.op;
    std::vector<std::string> without = kWithTiles;
    without.resize(6);
    const spec::Space dots = space_on(without, Dtype::bfloat16, variant);
    EXPECT_EQ(most_of(dots, "DOT"), 1) << place.op;
    EXPECT_TRUE(spec::is_valid(dots, spec::default_setting(dots))) << place.op;
  }
}

TEST(TileRegisters, AreNotForFewRows) {
  const spec::Variant& variant = variant_of("qmatvec", "streams");
  EXPECT_EQ(most_of(space_on(kWithTiles, Dtype::bfloat16, variant), "DOT"), 1);
}

TEST(TileRegisters, AreNoneWhereTheCompilerIsToldAnArchitecture) {
  if (std::getenv("MLX_KD_MARCH")) GTEST_SKIP() << "MLX_KD_MARCH is set";
  const auto has_amx = [] {
    const std::vector<std::string> sets = devices::cpu::make_cpu_id().traits.isa;
    return std::any_of(sets.begin(), sets.end(),
                       [](const std::string& name) { return name.starts_with("amx"); });
  };
  const bool before = has_amx();
  setenv("MLX_KD_MARCH", "x86-64-v3", 1);
  const bool named = has_amx();
  unsetenv("MLX_KD_MARCH");
  EXPECT_FALSE(named);
  EXPECT_EQ(has_amx(), before);
}

struct Mutant {
  const char *right, *wrong;
};

void expect_only_right(const Place& place, const std::vector<Dims>& sizes,
                       const std::vector<Mutant>& mutants) {
  if (!kernels::has_matrices(Dtype::bfloat16, devices::cpu::make_cpu_id().traits))
    GTEST_SKIP() << "this processor has no tile registers for bfloat16";
  const spec::Variant& variant = variant_of(place.op, place.variant);
  ProofRig rig(kernels::find_op(place.op), Dtype::bfloat16, sizes);
  const spec::Candidate right = rig.candidate(variant, spec::default_setting(rig.space(variant)));
  const Proof proof = rig.prove(right);
  EXPECT_EQ(proof.status, spec::Status::benchmarked) << proof.reason;
  for (const Mutant& mutant : mutants) {
    const Proof found = rig.prove_changed(right, mutant.right, mutant.wrong);
    EXPECT_TRUE(found.status == spec::Status::wrong || found.status == spec::Status::unstable)
        << mutant.wrong << ": " << name_of(found.status) << " " << found.reason;
  }
}

Dims product(int64_t m, int64_t n, int64_t k) {
  return {{"M", m}, {"N", n}, {"K", k}, {"has_norm", 0}, {"has_bias", 0}, {"has_residual", 0}};
}
Dims coded(int64_t m, int64_t n, int64_t k, int64_t bits, int64_t group, int64_t mode) {
  Dims dims = product(m, n, k);
  dims.set("bits", bits), dims.set("group", group), dims.set("mode", mode);
  return dims;
}

// Rows and columns that fill no tile; K that fills no step.
TEST(TileRegisters, ProductsOfDenseWeightsAreProved) {
  expect_only_right({"gemm", "tiles"},
                    {product(33, 70, 610), product(47, 33, 77), product(17, 16, 2080)},
                    {{"(count + 31) / 32", "count / 32"},
                     {"shape.m - row > kTileRows / 2", "shape.m - row > kTileRows"},
                     {"KD_MULTIPLY_TILES(3, 5, 7)", "KD_MULTIPLY_TILES(3, 5, 6)"}});
}

// Every order of codes: neighbours, halves of words, groups of half a step.
TEST(TileRegisters, ProductsOfCodesAreProved) {
  expect_only_right(
      {"qgemm", "tiles"},
      {coded(33, 70, 640, 4, 64, 0), coded(20, 40, 512, 2, 32, 0), coded(35, 33, 384, 3, 128, 0),
       coded(50, 64, 640, 8, 32, 0), coded(33, 48, 320, 4, 32, 1), coded(18, 33, 320, 8, 32, 2),
       coded(40, 70, 336, 4, 16, 3)},
      {{"made[2 * i + 1] * scales[1] + biases[1] * total", "made[2 * i + 1] * scales[1]"},
       {"shape.group / 2 / pairs", "shape.group / 2 / pairs / 2"},
       {"k / shape.group + g, g, made", "k / shape.group, g, made"}});
}

TEST(TileRegisters, ProductsOfTwoOperandsAreProved) {
  std::vector<Dims> sizes;
  for (int64_t form = 0; form < 4; ++form)
    sizes.push_back({{"batch", 1},
                     {"M", 70 + form},
                     {"N", 65 + form},
                     {"K", 1100 + form},
                     {"transpose_a", form / 2},
                     {"transpose_b", form % 2},
                     {"activation", 0},
                     {"has_c", 0},
                     {"has_bias", 0}});
  expect_only_right({"matmul", "blocks"}, sizes,
                    {{"some, from == 0, rows, sums", "some, true, rows, sums"},
                     {"to + half * kLanes * kLanes, words", "to, words"},
                     {"const bool has_next = done + 2 * step + 1 < depth",
                      "const bool has_next = done + 2 * step + 2 < depth"}});
}

Dims attention(int64_t queries, int64_t keys, int64_t heads, int64_t key_width, int64_t width,
               const Dims& limits) {
  Dims dims = {{"S", keys},    {"B", 1},          {"Hq", heads},    {"Hk", 1},
               {"M", queries}, {"Dk", key_width}, {"Dv", width},    {"causal", 1},
               {"window", 0},  {"has_mask", 0},   {"has_sinks", 0}, {"has_bias", 0}};
  for (const auto& [name, value] : limits.items()) dims.set(name, value);
  return dims;
}

// Rows that fill no 16, keys that fill no panel and no tile, widths that fill no step; blocks in
// one part and in several; every kind of limit.
TEST(TileRegisters, AttentionOfManyRowsIsProved) {
  std::vector<Mutant> mutants = {
      {"constexpr int kNumbers = 3;", "constexpr int kNumbers = 1;"},
      {"packed.powers[r] *= by;", ""},
      {"kPlaces < int(count - j)", "kPlaces <= int(count - j)"},
      {"group * kMatrixRows > kMatrixRows / 2", "group * kMatrixRows > kMatrixRows"}};
  if (std::getenv("MLX_KD_LONG"))
    mutants.insert(mutants.end(), {{"row[0] *= by, row[1] *= by;", "row[0] *= by;"},
                                   {"first % kPanel / kLanes", "0"},
                                   {"(keys >= low) & (keys < high)", "keys < high"},
                                   {"mask[i] ? score[i] : kMasked", "score[i]"},
                                   {"row + step_begin(step, width)", "row + step * kStep"}});
  expect_only_right({"attention", "blocks"},
                    {attention(29, 205, 3, 64, 72, {}), attention(5, 1100, 5, 33, 7, {}),
                     attention(19, 200, 1, 40, 64, {{"window", 70}, {"has_sinks", 1}}),
                     attention(14, 150, 2, 96, 33, {{"has_mask", 1}, {"causal", 0}}),
                     attention(11, 70, 1, 16, 130, {{"has_bias", 1}, {"has_mask", 1}})},
                    mutants);
}

}  // namespace
}  // namespace mlx_kd::evaluate::tile_registers_test

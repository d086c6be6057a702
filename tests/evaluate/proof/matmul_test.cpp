// matmul: wrong kernels that its proofs must reject, large products, and instruction sets.
#include <cstdlib>

#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/proof_rig.h"

namespace mlx_kd::evaluate::matmul_test {
namespace {

using spec::Dims;
using spec::Dtype;

Dims size(int64_t m, int64_t n, int64_t k, std::initializer_list<Dims::Item> changes = {}) {
  Dims dims = {{"batch", 1},      {"M", m},           {"N", n},
               {"K", k},          {"transpose_a", 0}, {"transpose_b", 0},
               {"activation", 0}, {"has_c", 0},       {"has_bias", 0}};
  for (const auto& [name, value] : changes) dims.set(name, value);
  return dims;
}

const spec::Op& op() {
  return kernels::find_op("matmul");
}

const spec::Variant& variant(const std::string& language, const std::string& name) {
  for (const spec::Variant& one : op().variants)
    if (one.language == language && one.name == name) return one;
  ADD_FAILURE() << "no variant " << name;
  return op().variants.front();
}

struct Mutant {
  const char *right, *wrong;
};

// All mutants take long: without MLX_KD_LONG the first is tried.
void expect_only_right(const spec::Variant& variant, const Dims& dims,
                       const std::vector<Mutant>& mutants, Dtype t = Dtype::float32) {
  ProofRig rig(op(), t, {dims}, variant.language == "metal" ? "simt" : "cpu");
  spec::Setting knobs = spec::default_setting(rig.space(variant));
  if (knobs.has("DOT")) knobs.set("DOT", 0);
  if (knobs.has("DOT") && knobs.has("TILE_M")) knobs.set("TILE_M", 12);  // no tile registers
  const spec::Candidate right = rig.candidate(variant, knobs);
  const Proof proof = rig.prove(right);
  EXPECT_EQ(proof.status, spec::Status::benchmarked) << proof.reason;
  for (const Mutant& mutant : mutants) {
    if (&mutant != &mutants.front() && !std::getenv("MLX_KD_LONG")) break;
    const Proof found = rig.prove_changed(right, mutant.right, mutant.wrong);
    EXPECT_TRUE(found.status == spec::Status::wrong || found.status == spec::Status::unstable)
        << mutant.wrong << ": " << name_of(found.status) << " " << found.reason;
  }
}

TEST(Matmul, RejectsWrongBlocks) {
  expect_only_right(variant("cpp", "blocks"), size(40, 70, 600, {{"has_c", 1}, {"has_bias", 1}}),
                    {{"steps - from);\n    const bool", "steps - from) - 1;\n    const bool"},
                     {"some, from == 0, rows", "some, true, rows"},
                     {"c_stride = a->strides[2][2]", "c_stride = n + 0 * a->strides[2][2]"},
                     {"bias + column, count", "bias, count"}});
}

TEST(Matmul, RejectsWrongParts) {
  expect_only_right(variant("cpp", "parts"), size(9, 21, 3000, {{"batch", 2}, {"transpose_a", 1}}),
                    {{"part < parts; ++part", "part < parts - 1; ++part"},
                     {"step == from,", "true,"},
                     {"item * strides[1]", "0 * strides[1]"}});
}

TEST(Matmul, RejectsWrongStreams) {
  expect_only_right(variant("cpp", "streams"), size(5, 300, 700, {{"transpose_b", 1}}),
                    {{"whole * kPerStep < k; ++s", "whole * kPerStep < k - 1000; ++s"},
                     {"begin + s * part + r + lane", "begin + s * part + r"}});
  expect_only_right(
      variant("cpp", "streams"), size(5, 300, 700),
      {{"step < steps_of(k); step += GROUP", "step < steps_of(k) - GROUP; step += GROUP"}});
}

TEST(MatmulInMetal, RejectsWrongTiles) {
  expect_only_right(variant("metal", "tiles"), size(33, 19, 40, {{"has_bias", 1}}),
                    {{"is_there ? from[at] : T(0.0f)", "from[at]"},
                     {"steps = (K + TILE_K - 1)", "steps = (K - TILE_K)"},
                     {"if (STAGES == 1) threadgroup_barrier(mem_flags::mem_threadgroup);", ""}});
}

// More than 2^27 terms: only some elements are compared.
const Dims kLarge = size(700, 500, 400, {{"transpose_b", 1}});

TEST(Matmul, OfLargeProductsGivesEnoughElements) {
  ASSERT_TRUE(op().is_sampled(kLarge));
  EXPECT_FALSE(op().is_sampled(size(500, 500, 500)));
  std::vector<float> a(700 * 400, 1), b(500 * 400, 2);
  const auto made =
      op().reference({a.data(), b.data(), nullptr, nullptr}, Dtype::float32, kLarge, {1, 1});
  ASSERT_EQ(made.size(), 1u);
  const spec::Reference64& all = made.front();
  ASSERT_EQ(all.y.size(), 700u * 500u);
  size_t checked = 0;
  for (size_t i = 0; i < all.y.size(); ++i) {
    const bool is_checked = all.absolute[i] < spec::kUnchecked;
    checked += is_checked;
    const size_t row = i / 500, column = i % 500;
    const bool is_outer = row == 0 || row == 699 || column == 0 || column == 499;
    EXPECT_TRUE(is_checked || !is_outer) << i;
    EXPECT_EQ(all.y[i], is_checked ? 800 : 0);
  }
  EXPECT_GE(checked, 4096u);
}

TEST(Matmul, RejectsWrongKernelsByTheSampledElements) {
  expect_only_right(
      variant("cpp", "blocks"), kLarge,
      {{"some, from == 0, rows", "some, true, rows"},
       {"for (long p = 0; p < left.count; ++p) {", "for (long p = 0; p + 1 < left.count; ++p) {"}});
}

// MLX_KD_MARCH of a processor with AVX2 alone, while the object lives.
class MaskedToAvx2 {
 public:
  MaskedToAvx2() { setenv("MLX_KD_MARCH", "x86-64-v3", 1); }
  ~MaskedToAvx2() { unsetenv("MLX_KD_MARCH"); }
  MaskedToAvx2(const MaskedToAvx2&) = delete;
  MaskedToAvx2& operator=(const MaskedToAvx2&) = delete;
};

TEST(Matmul, IsProvedWithAvx2Alone) {
#ifdef __x86_64__
  if (std::getenv("MLX_KD_MARCH")) GTEST_SKIP() << "MLX_KD_MARCH is set";
  const MaskedToAvx2 masked;
  for (const Dtype t : spec::float_dtypes()) {
    if (t != Dtype::bfloat16 && !std::getenv("MLX_KD_LONG")) continue;
    ProofRig rig(op(), t, op().edge_sizes);
    for (const spec::Variant& variant : op().variants) {
      if (variant.language != "cpp") continue;
      spec::Setting knobs = spec::default_setting(rig.space(variant));
      knobs.set("VEC", 32);
      if (knobs.has("DOT")) knobs.set("DOT", 0);
      if (knobs.has("TILE_M")) knobs.set("TILE_M", 6);
      const Proof proof = rig.prove(rig.candidate(variant, knobs));
      EXPECT_EQ(proof.status, spec::Status::benchmarked) << variant.name << ": " << proof.reason;
    }
  }
#else
  GTEST_SKIP() << "names an instruction set of x86";
#endif
}

}  // namespace
}  // namespace mlx_kd::evaluate::matmul_test

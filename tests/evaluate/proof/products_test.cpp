// Products of few rows: wrong kernels that their proofs must reject, and instruction sets.
#include <cstdlib>

#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/proof_rig.h"

namespace mlx_kd::evaluate::products_test {
namespace {

using spec::Dims;
using spec::Dtype;

Dims quantised(std::initializer_list<Dims::Item> changes) {
  Dims dims = {{"M", 1},    {"N", 48},       {"K", 2048},     {"bits", 4},        {"group", 64},
               {"mode", 0}, {"has_norm", 0}, {"has_bias", 0}, {"has_residual", 0}};
  for (const auto& [name, value] : changes) dims.set(name, value);
  return dims;
}

Dims dense(std::initializer_list<Dims::Item> changes) {
  Dims dims = {{"M", 1},        {"N", 48},       {"K", 2048},
               {"has_norm", 0}, {"has_bias", 0}, {"has_residual", 0}};
  for (const auto& [name, value] : changes) dims.set(name, value);
  return dims;
}

const spec::Variant& variant_in(const spec::Op& op, const std::string& language) {
  for (const spec::Variant& variant : op.variants)
    if (variant.language == language) return variant;
  ADD_FAILURE() << op.name << " has no kernel in " << language;
  return op.variants.front();
}

struct Mutant {
  const char *right, *wrong;
};

// Of C++ the kernel that every processor has, in the place of its dot products.
class Kernel {
 public:
  Kernel(const std::string& op, const std::string& language, Dtype t, const Dims& dims)
      : variant_(variant_in(kernels::find_op(op), language)),
        rig_(kernels::find_op(op), t, {dims}, language == "metal" ? "simt" : "cpu") {}

  Proof prove_with(const Mutant& mutant) {
    spec::Setting knobs = spec::default_setting(rig_.space(variant_));
    if (knobs.has("DOT")) knobs.set("DOT", 0);
    if (knobs.has("PREFETCH")) knobs.set("PREFETCH", 4096);
    return rig_.prove_changed(rig_.candidate(variant_, knobs), mutant.right, mutant.wrong);
  }

 private:
  const spec::Variant& variant_;
  ProofRig rig_;
};

bool is_long() {
  return std::getenv("MLX_KD_LONG");
}

// All mutants take a minute: without MLX_KD_LONG the first is tried.
void expect_only_right(Kernel&& kernel, const std::vector<Mutant>& mutants) {
  const Proof right = kernel.prove_with({"", ""});
  EXPECT_EQ(right.status, spec::Status::benchmarked) << right.reason;
  for (const Mutant& mutant : mutants) {
    if (&mutant != &mutants.front() && !is_long()) break;
    const Proof proof = kernel.prove_with(mutant);
    EXPECT_TRUE(proof.status == spec::Status::wrong || proof.status == spec::Status::unstable)
        << mutant.wrong << ": " << name_of(proof.status) << " " << proof.reason;
  }
}

// x of 8 bits, as other libraries multiply it; of one row.
constexpr const char* kQuantiseX = R"(
  static T q[2048];
  float most = 0;
  for (long i = 0; i < shape.k; ++i) {
    const float size = element(x + i) < 0 ? -element(x + i) : element(x + i);
    if (size > most) most = size;
  }
  for (long i = 0; i < shape.k; ++i) {
    const float code = element(x + i) * 127 / most;
    q[i] = element_lanes(Floats{} + float(int(code < 0 ? code - 0.5f : code + 0.5f)) * most / 127)[0];
  }
  x = q;
  sum_groups(shape, x, row, to);
  return x;)";

// None of them reaches beyond the arrays, where the process would end.
TEST(Matvec, RejectsWrongKernels) {
  expect_only_right({"matvec", "cpp", Dtype::bfloat16, dense({})},
                    {{"Shape shape = {m, k, bits", "Shape shape = {m, k - 1, bits"},
                     {"sums[i] += part * take<Floats>(x.floats + (m + i) * shape.k + j);",
                      "sums[i] = rounded_lanes(sums[i] + part * take<Floats>(x.floats + (m + i) * "
                      "shape.k + j));"},
                     {"\n  sum_groups(shape, x, row, to);\n  return x;", kQuantiseX}});
  if (!is_long()) return;
  expect_only_right(
      {"matvec", "cpp", Dtype::float32, dense({{"M", 3}, {"K", 77}, {"N", 19}})},
      {{"take_some<Elements>(w + j, shape.k - j)", "take_some<Elements>(w + j, shape.k - j - 1)"}});
}

constexpr const char* kDropLast = R"(
  static T q[2048];
  __builtin_memcpy(q, x, shape.k * sizeof(T));
  for (long i = shape.k - 4; i < shape.k; ++i) q[i] = 0;
  x = q;
  sum_groups(shape, x, row, to);
  return x;)";

// Of x after its norm.
TEST(ProductsWithANorm, RejectWrongKernels) {
  const char* const end = "\n  sum_groups(shape, x, row, to);\n  return x;";
  expect_only_right({"matvec", "cpp", Dtype::bfloat16, dense({{"has_norm", 1}})},
                    {{end, kQuantiseX}, {end, kDropLast}});
  if (!is_long()) return;
  expect_only_right({"qmatvec", "cpp", Dtype::bfloat16, quantised({{"has_norm", 1}})},
                    {{end, kQuantiseX}, {end, kDropLast}});
  expect_only_right({"matvec_gate_up",
                     "cpp",
                     Dtype::bfloat16,
                     {{"M", 1}, {"N", 48}, {"K", 2048}, {"activation", 0}, {"has_norm", 1}}},
                    {{end, kQuantiseX}, {end, kDropLast}});
}

TEST(Matvec, RejectsWrongEnds) {
  expect_only_right({"matvec", "cpp", Dtype::float32,
                     dense({{"M", 2}, {"K", 96}, {"has_bias", 1}, {"has_residual", 1}})},
                    {{"float_lanes(take_some<Elements>(bias + row, count))",
                      "float_lanes(take_some<Elements>(bias, count))"},
                     {"residual + m * columns + row", "residual + row"},
                     {"if (bias) value =", "if (!residual) value ="}});
}

TEST(Qmatvec, RejectsWrongKernels) {
  expect_only_right({"qmatvec", "cpp", Dtype::bfloat16, quantised({})},
                    {{"sums[i] += product * scales[g];", "sums[i] += product * scales[0];"},
                     {"\n  sum_groups(shape, x, row, to);\n  return x;", kQuantiseX},
                     {"sums[i] += product * scales[g];",
                      "sums[i] = rounded_lanes(sums[i] + product * scales[g]);"},
                     {"values_at(row.biases + g * long(sizeof(T)), shape.groups - g)",
                      "values_at(row.biases + (g + 1) * long(sizeof(T)), shape.groups - g - 1)"},
                     {"j < shape.group; j += kLanes)\n          product",
                      "j < shape.group - kLanes; j += kLanes)\n          product"}});
}

TEST(QmatvecInMetal, RejectsWrongKernels) {
  expect_only_right(
      {"qmatvec", "metal", Dtype::bfloat16, quantised({{"N", 6}})},
      {{"unit < K / columns;", "unit < K / columns - 1;"},
       {"* groups + unit * columns / group;", "* groups + (unit * columns / group ^ 1);"},
       {"element_of(w.biases, at) : 0.0f", "element_of(w.biases, at ^ 1) : 0.0f"},
       {"sums.at[r][m] += scale * dots.at[r][m];",
        "sums.at[r][m] = float(T(sums.at[r][m] + scale * dots.at[r][m]));"}});
  if (!is_long()) return;
  expect_only_right(
      {"qmatvec", "metal", Dtype::float32,
       quantised({{"M", 2}, {"N", 6}, {"K", 128}, {"has_norm", 1}, {"has_bias", 1}})},
      {{"  threadgroup_barrier(mem_flags::mem_threadgroup);\n  for (uint i", "  for (uint i"},
       {"sum / float(K) + eps", "sum / float(K)"},
       {"* float(w[i]));", ");"},
       {"float(bias[one.row])", "float(bias[0])"}});
}

TEST(MatvecGateUpInMetal, RejectsWrongKernels) {
  expect_only_right(
      {"matvec_gate_up",
       "metal",
       Dtype::float32,
       {{"M", 3}, {"N", 9}, {"K", 70}, {"activation", 0}, {"has_norm", 0}}},
      {{"v < left ? float(from[v]) : 0.0f", "v + 1 < left ? float(from[v]) : 0.0f"},
       {"activated(gate.product, activation) * up", "activated(up.product, activation) * up"},
       {"place.part * 32 + place.lane) * VEC", "place.lane + 1) * VEC"}});
}

TEST(MatvecQkvInMetal, RejectsWrongKernels) {
  expect_only_right(
      {"matvec_qkv",
       "metal",
       Dtype::float32,
       {{"M", 5}, {"Nq", 33}, {"Nk", 9}, {"Nv", 5}, {"K", 40}, {"has_norm", 0}, {"has_bias", 1}}},
      {{"of_k ? wk : wv", "of_k ? wv : wv"}, {"of_k ? bias_k : bias_v", "of_k ? bias_q : bias_v"}});
}

Dims of_experts(std::initializer_list<Dims::Item> changes) {
  Dims dims = {{"M", 40},   {"A", 2},      {"E", 3},    {"N", 70},       {"K", 192},
               {"bits", 4}, {"group", 64}, {"mode", 0}, {"per_pair", 0}, {"has_bias", 1}};
  for (const auto& [name, value] : changes) dims.set(name, value);
  return dims;
}

// More than 2^27 terms: only some elements are compared.
TEST(Qgemm, OfLargeProductsIsProvedBySampledElements) {
  const spec::Op& op = kernels::find_op("qgemm");
  const Dims large = quantised({{"M", 140}, {"N", 500}, {"has_norm", 1}, {"has_residual", 1}});
  ASSERT_TRUE(op.is_sampled(large));
  EXPECT_FALSE(op.is_sampled(quantised({{"M", 128}, {"N", 512}})));
  EXPECT_FALSE(op.is_sampled(quantised({{"M", 1}, {"N", 300000}, {"K", 256}})));
  ProofRig rig(op, Dtype::bfloat16, {large});
  const Case& c = rig.plan().cases.front();
  std::vector<const void*> inputs;
  for (const Span& span : c.inputs) inputs.push_back(rig.memory() + span.offset);
  const spec::Reference64 made =
      op.reference(inputs, Dtype::bfloat16, large, spec::default_scalars(op)).front();
  size_t checked = 0;
  for (size_t i = 0; i < made.y.size(); ++i) {
    const bool is_checked = made.absolute[i] < spec::kUnchecked;
    checked += is_checked;
    const size_t row = i / 500, column = i % 500;
    const bool is_outer = row == 0 || row == 139 || column == 0 || column == 499;
    EXPECT_TRUE(is_checked || !is_outer) << i;
  }
  EXPECT_GE(checked, 16384u);
  EXPECT_LT(checked, made.y.size());
}

TEST(GatherQgemm, RejectsWrongKernels) {
  expect_only_right({"gather_qgemm", "cpp", Dtype::float32, of_experts({})},
                    {{"(T*)a->outputs[0], expert.pairs", "(T*)a->outputs[0], groups_of(a).pairs"},
                     {"bias_of(a, bias, expert.index)", "bias_of(a, bias, 0)"},
                     {"pair / a->dims[KD_DIM_A]", "pair % a->dims[KD_DIM_M]"},
                     {"(rows + kTileRows - 1) / kTileRows", "rows / kTileRows"}});
}

TEST(GatherQmatvecInMetal, RejectsWrongKernels) {
  expect_only_right({"gather_qmatvec", "metal", Dtype::float32, of_experts({{"M", 2}, {"N", 9}})},
                    {{"ulong(expert) * N", "ulong(0) * N"},
                     {"per_pair != 0 ? pair : pair / uint(A)", "pair"},
                     {"bias[ulong(expert) * uint(N) + one.row]", "bias[one.row]"}});
}

// MLX_KD_MARCH of a processor with AVX2 alone, while the object lives.
class Avx2 {
 public:
  Avx2() { setenv("MLX_KD_MARCH", "x86-64-v3", 1); }
  ~Avx2() { unsetenv("MLX_KD_MARCH"); }
  Avx2(const Avx2&) = delete;
  Avx2& operator=(const Avx2&) = delete;
};

TEST(Products, AreProvedWithAvx2Alone) {
#ifdef __x86_64__
  if (std::getenv("MLX_KD_MARCH")) GTEST_SKIP() << "MLX_KD_MARCH is set";
  const Avx2 masked;
  for (const spec::Op& op : kernels::all_ops()) {
    if (op.name.find("matvec") == std::string::npos && op.name.find("gemm") == std::string::npos)
      continue;
    for (const Dtype t : spec::float_dtypes()) {
      if (!is_long() && !(op.name == "qmatvec" && t == Dtype::bfloat16)) continue;
      ProofRig rig(op, t, op.edge_sizes);
      const spec::Variant& variant = variant_in(op, "cpp");
      for (const int64_t bytes : {32, 16}) {
        if (!is_long() && bytes < 32) continue;
        spec::Setting knobs = spec::default_setting(rig.space(variant));
        knobs.set("VEC", bytes);
        if (knobs.has("DOT")) knobs.set("DOT", 0);
        const Proof proof = rig.prove(rig.candidate(variant, knobs));
        EXPECT_EQ(proof.status, spec::Status::benchmarked)
            << op.name << " " << name_of(t) << " " << knobs.text() << ": " << proof.reason;
      }
    }
  }
#else
  GTEST_SKIP() << "names an instruction set of x86";
#endif
}

}  // namespace
}  // namespace mlx_kd::evaluate::products_test

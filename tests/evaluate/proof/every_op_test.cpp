// Every operator of the table, in every type, on the CPU and on the executor, at its edge sizes,
// and that source knobs change the object; mutants of kernels, which the proof must reject.
#include "tests/kernels/every_op.h"

#include <mlx/mlx.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "mlx_kd/evaluate/proof/check_output.h"
#include "mlx_kd/evaluate/proof/mlx_arrays.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/proof_rig.h"
#include "tests/evaluate/source_knobs.h"

namespace mlx_kd::evaluate {
namespace {

using spec::Dtype;

using OpAndType = std::tuple<std::string, Dtype>;

std::vector<OpAndType> ops_and_types() {
  std::vector<OpAndType> all;
  for (const spec::Op& op : kernels::all_ops())
    for (const Dtype t : op.types) all.emplace_back(op.name, t);
  return all;
}

class EveryOp : public testing::TestWithParam<OpAndType> {
 protected:
  const spec::Op& op = kernels::find_op(std::get<0>(GetParam()));
  const Dtype t = std::get<1>(GetParam());

  std::vector<const spec::Variant*> variants(const std::string& language) const {
    std::vector<const spec::Variant*> result;
    for (const spec::Variant& variant : op.variants)
      if (variant.language == language) result.push_back(&variant);
    return result;
  }

  // Whether all ports have types of their own: then kernels are the same for every T.
  bool has_one_type() const {
    const auto is_own = [](const spec::Port& port) { return port.type.is_fixed(); };
    return std::all_of(op.inputs.begin(), op.inputs.end(), is_own) &&
           std::all_of(op.outputs.begin(), op.outputs.end(), is_own);
  }

  // The default and random settings; of sources that take long to compile, other numbers of them.
  void prove_settings(const std::string& language, const std::string& device, int settings,
                      int settings_of_long) {
    if (variants(language).empty()) GTEST_SKIP() << op.name << " has no kernel in " << language;
    if (t != Dtype::float32 && has_one_type()) GTEST_SKIP() << op.name << " is proved in float32";
    ProofRig rig(op, t, op.edge_sizes, device);
    base::Random random(7);
    for (const spec::Variant* variant : variants(language)) {
      const int trials = kernels::takes_long(*variant) ? settings_of_long : settings;
      SourceKnobs objects;
      for (int trial = 0; trial < trials; ++trial) {
        const spec::Candidate candidate =
            next_of(*variant, rig, objects, trial ? &random : nullptr);
        const Proof proof = rig.prove(candidate);
        EXPECT_EQ(proof.status, spec::Status::benchmarked)
            << variant->name << " " << candidate.knobs.text() << ": " << proof.reason;
        if (device == "cpu") objects.add(candidate, rig.device().compile(candidate, 60));
      }
      objects.expect_that_they_change_the_object(variant->name);
    }
  }

 private:
  // The default, or a random setting, whose source knobs are new where that is possible.
  static spec::Candidate next_of(const spec::Variant& variant, const ProofRig& rig,
                                 const SourceKnobs& objects, base::Random* random) {
    const spec::Space space = rig.space(variant);
    spec::Candidate candidate = rig.candidate(variant, spec::default_setting(space));
    for (int draw = 0; random && draw < 20; ++draw) {
      candidate = rig.candidate(variant, random_setting(space, *random));
      if (!objects.know(candidate)) break;
    }
    return candidate;
  }
};

INSTANTIATE_TEST_SUITE_P(Table, EveryOp, testing::ValuesIn(ops_and_types()), [](const auto& test) {
  return std::get<0>(test.param) + "_" + name_of(std::get<1>(test.param));
});

TEST_P(EveryOp, HasEdgeSizes) {
  EXPECT_FALSE(op.edge_sizes.empty());
}

// What its source knobs change is seen in the same objects, which take long to compile.
TEST_P(EveryOp, IsProvedOnTheCpu) {
  if (std::getenv("MLX_KD_LONG")) return prove_settings("cpp", "cpu", 20, 20);
  // Most of the time goes into compiling: one of the types has more random settings, where a
  // setting takes seconds the only one.
  const bool has_more = t == Dtype::bfloat16 || has_one_type();
  prove_settings("cpp", "cpu", has_more ? 4 : 2, has_more ? 2 : 1);
}

TEST_P(EveryOp, IsProvedOnTheExecutor) {
  if (t == Dtype::float64) GTEST_SKIP() << "Metal lacks it";
  const int settings = std::getenv("MLX_KD_LONG") ? 10 : 2;
  prove_settings("metal", "simt", settings, settings);
}

// In float32 MLX's intermediate roundings are float32's, so its own result is within the bound.
TEST_P(EveryOp, AllowsWhatMlxComputesInFloat32) {
  if (t != Dtype::float32 || !op.mlx || !judged_by(op, spec::Judge::bound))
    GTEST_SKIP() << "nothing to compare";
  const ProofRig rig(op, t, op.edge_sizes);
  for (const Case& c : rig.plan().cases)
    for (const OutputSpans& output : c.outputs) {
      if (output.bound.bytes == 0) continue;
      const std::byte* const expected = rig.memory() + output.expected.offset;
      const Compared what{expected,
                          expected,
                          reinterpret_cast<const double*>(rig.memory() + output.y64.offset),
                          reinterpret_cast<const float*>(rig.memory() + output.bound.offset),
                          output.array.elements(),
                          output.array.type};
      const Comparison found = compare(what);
      EXPECT_LT(found.first_wrong, 0) << c.text() << ": " << explain(what, found.first_wrong);
    }
}

// In 16 bits MLX also rounds on the way, which the bound does not charge: so many roundings of S,
// and of subnormals so many of the smallest, which a cap of 30 carries to the result.
constexpr double kRoundingsOfMlx = 4, kSubnormalsOfMlx = 32;

// A form of MLX that computes something else would be what every claim is measured against.
TEST_P(EveryOp, HasAFormInMlxThatIsNearFloat64InItsOwnType) {
  if (t == Dtype::float32 || !op.mlx || !judged_by(op, spec::Judge::bound))
    GTEST_SKIP() << "nothing to compare";
  const ProofRig rig(op, t, op.edge_sizes);
  for (const Case& c : rig.plan().cases) {
    std::vector<const void*> inputs;
    for (const Span& span : c.inputs) inputs.push_back(rig.memory() + span.offset);
    const auto made = op.reference(inputs, t, c.dims, c.scalars);
    for (size_t i = 0; i < c.outputs.size(); ++i) {
      const OutputSpans& output = c.outputs[i];
      if (output.bound.bytes == 0) continue;
      const auto* bound = reinterpret_cast<const float*>(rig.memory() + output.bound.offset);
      std::vector<float> wider(bound, bound + output.array.elements());
      for (size_t k = 0; k < wider.size(); ++k)
        wider[k] += static_cast<float>(kRoundingsOfMlx * spec::unit_roundoff(t) * made[i].terms[k] +
                                       kSubnormalsOfMlx * spec::smallest_subnormal(t));
      const std::byte* const mlx = rig.memory() + output.expected.offset;
      const Compared what{mlx,
                          mlx,
                          reinterpret_cast<const double*>(rig.memory() + output.y64.offset),
                          wider.data(),
                          output.array.elements(),
                          output.array.type};
      const Comparison found = compare(what);
      EXPECT_LT(found.first_wrong, 0) << c.text() << ": " << explain(what, found.first_wrong);
    }
  }
}

spec::Op::Arrays mlx_results_of(const spec::Op& op, const ProofRig& rig, const Case& c) {
  spec::Op::Arrays inputs;
  for (size_t i = 0; i < op.inputs.size(); ++i)
    inputs.push_back(to_mlx(rig.memory() + c.inputs[i].offset, c.input_arrays[i]));
  const mx::Stream stream = mx::default_stream(mx::Device::cpu);
  return evaluated(op.mlx(inputs, spec::numbers_of(op, c.scalars, c.dims), stream), c, op);
}

// Outputs that are judged bit for bit, by the op's own `exact`.
TEST_P(EveryOp, HasAFormInMlxThatGivesTheExactBits) {
  if (!op.mlx || !op.exact) GTEST_SKIP() << "nothing to compare";
  const ProofRig rig(op, t, op.edge_sizes);
  for (const Case& c : rig.plan().cases) {
    const auto results = mlx_results_of(op, rig, c);
    for (size_t i = 0; i < results.size(); ++i)
      if (op.outputs[i].judge == spec::Judge::exact) {
        EXPECT_EQ(std::memcmp(results[i].data<char>(), rig.memory() + c.outputs[i].expected.offset,
                              results[i].nbytes()),
                  0)
            << c.text() << ", " << op.outputs[i].name;
      }
  }
}

// Outputs that are judged by residuals: those of MLX's own result, in its own type.
TEST_P(EveryOp, HasAFormInMlxWithSmallResiduals) {
  if (!op.mlx || !op.residuals) GTEST_SKIP() << "nothing to compare";
  const ProofRig rig(op, t, op.edge_sizes);
  for (const Case& c : rig.plan().cases) {
    if (c.distribution == spec::Distribution::special) continue;  // MLX has no info there
    const auto results = mlx_results_of(op, rig, c);
    spec::JudgedCase judged{{}, {}, t, c.dims, c.scalars, c.distribution};
    for (const Span& span : c.inputs) judged.inputs.push_back(rig.memory() + span.offset);
    for (const mx::array& result : results) judged.outputs.push_back(result.data<char>());
    for (const spec::Residual& residual : op.residuals(judged))
      EXPECT_LE(residual.ratio, residual.limit) << c.text() << ": " << residual.name;
  }
}

// A kernel that is wrong in one place of its source.
struct Mutant {
  std::string op, language;
  Dtype t;
  spec::Dims size;
  std::string right, wrong;
};

void PrintTo(const Mutant& mutant, std::ostream* out) {
  *out << mutant.op << " in " << mutant.language << ": " << mutant.wrong;
}

class EveryMutant : public testing::TestWithParam<Mutant> {};

TEST_P(EveryMutant, IsRejected) {
  const Mutant& mutant = GetParam();
  const spec::Op& op = kernels::find_op(mutant.op);
  ProofRig rig(op, mutant.t, {mutant.size}, mutant.language == "metal" ? "simt" : "cpu");
  for (const spec::Variant& variant : op.variants) {
    if (variant.language != mutant.language) continue;
    spec::Setting knobs = spec::default_setting(rig.space(variant));
    if (knobs.has("BF16")) knobs.set("BF16", 0);  // integers round, as a mutant may do wrong
    spec::Candidate candidate = rig.candidate(variant, knobs);
    const size_t at = candidate.source.find(mutant.right);
    ASSERT_NE(at, std::string::npos);
    EXPECT_EQ(rig.prove(candidate).status, spec::Status::benchmarked);
    candidate.source.replace(at, mutant.right.size(), mutant.wrong);
    const Proof proof = rig.prove(candidate);
    EXPECT_TRUE(proof.status == spec::Status::wrong || proof.status == spec::Status::unstable)
        << name_of(proof.status) << ": " << proof.reason;
  }
}

const char kNearest[] = "return bits + 0x7fff + (bits >> 16 & 1);";
const spec::Dims kRows = {{"rows", 8}, {"D", 512}};
const spec::Dims kLogits = {{"B", 9}, {"V", 9001}};
const spec::Dims kFewLogits = {{"B", 9}, {"V", 75}};
const spec::Dims kHeads = {{"B", 2}, {"H_Q", 3}, {"D_NOPE", 40}, {"D_ROPE", 38}};

INSTANTIATE_TEST_SUITE_P(
    Kernels, EveryMutant,
    testing::Values(
        Mutant{"rmsnorm", "cpp", Dtype::float32, kRows, ") + eps;", ");"},
        Mutant{"rmsnorm", "cpp", Dtype::bfloat16, kRows, ") + eps;", ");"},
        Mutant{"rmsnorm", "cpp", Dtype::float16, kRows, "1.0 / double(d)", "1.01 / double(d)"},
        Mutant{"rmsnorm_residual", "cpp", Dtype::float32, kRows, ") + eps;", ");"},
        Mutant{"rmsnorm_residual", "cpp", Dtype::float32, kRows, "x.part[p] += residual.part[p]",
               "x.part[p] -= residual.part[p]"},
        Mutant{"rmsnorm_residual", "cpp", Dtype::bfloat16, kRows, kNearest, "return bits;"},
        Mutant{"swiglu", "cpp", Dtype::float32, kRows, "one_plus_exp(-g)", "one_plus_exp(g)"},
        Mutant{"swiglu", "cpp", Dtype::float32, kRows, "* f + 0x1.ebf9bcp-3f)",
               "* f + 0x1.ebe8p-3f)"},
        Mutant{"swiglu", "cpp", Dtype::bfloat16, kRows, kNearest, "return bits;"},
        Mutant{"rope", "cpp", Dtype::float32, kHeads, "(int i = 0; i < VEC / 4; i += 2) sign",
               "(int i = 1; i < VEC / 4; i += 2) sign"},
        Mutant{"rope", "cpp", Dtype::bfloat16, kHeads, kNearest, "return bits;"},
        Mutant{"soft_cap", "cpp", Dtype::float32, kRows, "less_one + 2.0f", "less_one + 2.00001f"},
        Mutant{"soft_cap", "cpp", Dtype::float32, kRows, "at_most((Floats)(bits ^ sign), by.end)",
               "(Floats)(bits ^ sign)"},
        Mutant{"soft_cap", "cpp", Dtype::bfloat16, kRows, kNearest, "return bits;"},
        Mutant{"soft_cap", "metal", Dtype::float32, kRows, "T(cap * TANH(x))", "T(cap * (x))"},
        Mutant{"soft_cap_vjp", "cpp", Dtype::float32, kRows, "sum * sum", "sum"},
        Mutant{"greedy_token", "cpp", Dtype::float32, kLogits, "0.6931471805599453", "0.693"},
        Mutant{"greedy_token", "cpp", Dtype::bfloat16, kLogits, "minus = rounded(", "minus = ("},
        Mutant{"greedy_token", "cpp", Dtype::bfloat16, kLogits, "    step = rounded(step);\n", ""},
        Mutant{"greedy_token", "cpp", Dtype::bfloat16, kLogits,
               "  long block = 0;\n  while (block + 1 < row.blocks && ",
               "  long block = row.blocks > 1;\n  while (block + 1 < row.blocks && "},
        Mutant{"greedy_token", "cpp", Dtype::float32, kLogits, ": nan_or_zero(x, count)",
               ": sum_of(x, count, most)"},
        Mutant{"greedy_token", "cpp", Dtype::float32, kFewLogits, ": -kInfinity;", ": 0.0f;"}));

// y = sum over k of x[k] w[k], in bfloat16 with float32 sums: the operator on which a bound of u S
// would let wrong kernels pass.
const char kDot[] = R"(
#ifndef DROP
#define DROP 0  // last elements that are left out
#endif
#ifndef INT8
#define INT8 0  // x is quantised to 8 bits
#endif
static float widen(unsigned short bits) {
  union { unsigned u; float f; } both = {(unsigned)bits << 16};
  return both.f;
}
static unsigned short narrow(float value) {
  union { float f; unsigned u; } both = {value};
  return (unsigned short)((both.u + 0x7fff + (both.u >> 16 & 1)) >> 16);
}
extern "C" void dot(const void* const* in, void* const* out, const long* dims, const double*,
                    long begin, long end) {
  const long k = dims[1];
  for (long row = begin; row < end; ++row) {
    const unsigned short* x = (const unsigned short*)in[0] + row * k;
    const unsigned short* w = (const unsigned short*)in[1];
    float largest = 0, sum = 0;
    for (long i = 0; i < k; ++i) {
      const float size = widen(x[i]) < 0 ? -widen(x[i]) : widen(x[i]);
      if (size > largest) largest = size;
    }
    for (long i = 0; i < k - DROP; ++i) {
      float value = widen(x[i]);
      if (INT8 && largest > 0) value = (float)(int)(value * 127 / largest + (value < 0 ? -0.5f : 0.5f)) * largest / 127;
      sum += value * widen(w[i]);
    }
    ((unsigned short*)out[0])[row] = narrow(sum);
  }
}
)";

spec::Op dot_op() {
  spec::Op op;
  op.name = "dot";
  op.summary = "y = sum of x w";
  op.inputs = {{"x",
                [](const spec::Dims& d) {
                  return spec::Shape{d.at("rows"), d.at("K")};
                }},
               {"w", [](const spec::Dims& d) { return spec::Shape{d.at("K")}; }}};
  op.outputs = {{"y", [](const spec::Dims& d) { return spec::Shape{d.at("rows")}; }}};
  op.dims = {{"rows"}, {"K"}};
  op.batch_dim = "rows";
  op.suites = {{"only", {{{"rows", 4}, {"K", 2048}}}}};
  op.bound = [](const spec::Dims& dims) {
    return spec::ErrorBound{6 * std::sqrt(static_cast<double>(dims.at("K"))) + 1,
                            "The sum is float32; it is rounded once to the type."};
  };
  op.reference = [](const std::vector<const void*>& in, Dtype t, const spec::Dims& dims,
                    const std::vector<double>&) {
    spec::Reference64 made;
    const int64_t k = dims.at("K");
    for (int64_t row = 0; row < dims.at("rows"); ++row) {
      double y = 0, terms = 0;
      for (int64_t i = 0; i < k; ++i) {
        const double term = double{spec::load_element(in[0], row * k + i, t)} *
                            double{spec::load_element(in[1], i, t)};
        y += term;
        terms += std::fabs(term);
      }
      made.y.push_back(y);
      made.rounded.push_back(std::fabs(y));
      made.terms.push_back(terms);
    }
    return std::vector<spec::Reference64>{made};
  };
  op.variants = {{"rows", "cpp", kDot, "dot", "cpu_rows",
                  [](Dtype, const spec::DeviceTraits&) {
                    spec::Space space;
                    space.knobs = {{"DROP", {0, 4}}, {"INT8", {0, 1}}};
                    return space;
                  },
                  [](const spec::Dims& dims, const spec::Setting&) {
                    spec::Launch launch;
                    launch.grid[0] = launch.group[0] = dims.at("rows");
                    return launch;
                  }}};
  return op;
}

TEST(BoundOfAProduct, RejectsDroppedElementsAndInt8InBfloat16) {
  const spec::Op op = dot_op();
  ASSERT_TRUE(spec::faults_of(op).empty()) << spec::faults_of(op).front();
  ProofRig rig(op, Dtype::bfloat16, {{{"rows", 16}, {"K", 2048}}});
  const auto status = [&](int64_t drop, int64_t int8) {
    return rig.prove(rig.candidate(op.variants.front(), {{"DROP", drop}, {"INT8", int8}})).status;
  };
  EXPECT_EQ(status(0, 0), spec::Status::benchmarked);
  EXPECT_EQ(status(4, 0), spec::Status::wrong);
  EXPECT_EQ(status(0, 1), spec::Status::wrong);
}

}  // namespace
}  // namespace mlx_kd::evaluate

// Operators of models on AArch64: kernels compiled for its vectors and run under qemu, judged as a
// proof does.
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "mlx_kd/base/process.h"
#include "mlx_kd/devices/kernel_arguments.h"
#include "mlx_kd/evaluate/proof/check_output.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/proof_rig.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::evaluate::aarch64_test {
namespace {

using spec::Dtype;

const char kCompiler[] = "aarch64-linux-gnu-g++", kEmulator[] = "qemu-aarch64";

// Reads calls as `written` writes them, makes them and writes their outputs.
const char kMain[] = R"(
static long number(FILE* from) {
  long value = 0;
  if (fread(&value, sizeof value, 1, from) != 1) exit(3);
  return value;
}
int main(int, char** names) {
  FILE* const in = fopen(names[1], "rb");
  FILE* const out = fopen(names[2], "wb");
  if (!in || !out) return 4;
  for (long calls = number(in); calls > 0; --calls) {
    kd_arguments a = {};
    const long dims = number(in);
    for (long i = 0; i < dims; ++i) a.dims[i] = number(in);
    const long scalars = number(in);
    for (long i = 0; i < scalars; ++i) a.scalars[i] = double(number(in)) / 1e12;
    const long inputs = number(in);
    for (long i = 0; i < inputs; ++i) {
      const long bytes = number(in);
      void* const memory = malloc(bytes > 0 ? bytes : 1);
      if (bytes > 0 && fread(memory, bytes, 1, in) != 1) return 5;
      a.inputs[i] = memory;
      for (long axis = 0; axis < 4; ++axis) a.strides[i][axis] = number(in);
    }
    const long outputs = number(in);
    long sizes[KD_OUTPUTS];
    for (long i = 0; i < outputs; ++i) a.outputs[i] = malloc(sizes[i] = number(in));
    const long scratch = number(in);
    for (long i = 0; i < scratch; ++i) a.scratch[i] = aligned_alloc(64, (number(in) + 63) / 64 * 64);
    const long stages = number(in);
    for (long i = 0; i < stages; ++i) {
      const long units = number(in), each = number(in);
      a.stage = number(in);
      for (long from = 0; from < units; from += each)
        kStages[i](&a, from, from + each < units ? from + each : units);
    }
    for (long i = 0; i < outputs; ++i)
      if (fwrite(a.outputs[i], sizes[i], 1, out) != 1) return 6;
  }
  return fclose(out);
}
)";

class Numbers {
 public:
  explicit Numbers(const std::string& path) : file_(path, std::ios::binary) {}
  void add(int64_t number) { add(&number, sizeof number); }
  void add(const void* from, size_t bytes) {
    file_.write(static_cast<const char*>(from), static_cast<std::streamsize>(bytes));
  }

 private:
  std::ofstream file_;
};

// What a processor has: the compiler's name of it, and the instructions that are to be used.
struct Processor {
  std::string march;
  std::vector<std::string> instructions;
};
const Processor kFirst = {"armv8-a", {}}, kDots = {"armv8.6-a", {"bfdot"}},
                kBytes = {"armv8.2-a+dotprod", {"sdot"}},
                kAllBytes = {"armv8.2-a+dotprod+i8mm", {"sdot", "usdot"}};

class OnAArch64 {
 public:
  OnAArch64(const spec::Op& op, const spec::Variant& variant, Dtype t,
            const Processor& processor = kFirst)
      : op_(op), t_(t), rig_(op, t, op.edge_sizes), variant_(variant), processor_(processor) {
    const spec::Space space = rig_.space(variant_);
    knobs_ = spec::default_setting(space);
    for (const auto& [name, value] : std::initializer_list<spec::Setting::Item>{
             {"VEC", 16}, {"THREADS", 1}, {"BF16", 0}, {"DOT", &processor == &kDots}})
      if (knobs_.has(name)) knobs_.set(name, value);
  }

  void expect_right() {
    compile();
    if (testing::Test::HasFailure()) return;
    write_calls();
    const auto run = base::run_process(
        {kEmulator, folder_ / "kernel", folder_ / "calls", folder_ / "made"}, 300);
    ASSERT_TRUE(run.ok()) << run.exit_code << " " << run.signal << " " << run.output;
    judge();
  }

 private:
  devices::Call call_of(const Case& c) const {
    return devices::make_call(op_, variant_, t_, c.dims, knobs_, c.scalars);
  }

  void compile() {
    const spec::Candidate candidate = rig_.candidate(variant_, knobs_);
    std::vector<spec::Stage> most;  // of the cases: small ones may need the first alone
    for (const Case& c : rig_.plan().cases)
      if (const devices::Call call = call_of(c); call.stages.size() > most.size())
        most = call.stages;
    std::string stages;
    for (const spec::Stage& stage : most) stages += (stages.empty() ? "" : ", ") + stage.func_name;
    std::ofstream(folder_ / "kernel.cpp")
        << "#include <stdio.h>\n#include <stdlib.h>\n"
        << candidate.source
        << "\nstatic void (*const kStages[])(const kd_arguments*, long, long) = {" << stages
        << "};\n"
        << kMain;
    std::vector<std::string> argv = {kCompiler,         "-O2", "-std=c++20", "-ffp-contract=fast",
                                     "-fno-math-errno", "-w",  "-static"};
    for (const std::string& macro : devices::argument_macros(candidate))
      argv.push_back("-D" + macro);
    argv.push_back("-march=" + processor_.march);
    argv.push_back(folder_ / "kernel.cpp");
    auto whole = argv;
    whole.insert(whole.end(), {"-o", folder_ / "kernel"});
    const auto made = base::run_process(whole, 300);
    ASSERT_TRUE(made.ok()) << made.output;
    if (!processor_.instructions.empty()) expect_instructions(argv);
  }

  // In the text that the compiler makes.
  void expect_instructions(std::vector<std::string> argv) const {
    argv.insert(argv.end(), {"-S", "-o", folder_ / "kernel.s"});
    ASSERT_TRUE(base::run_process(argv, 300).ok());
    const std::string text = tests::text_of(folder_ / "kernel.s");
    for (const std::string& instruction : processor_.instructions)
      EXPECT_NE(text.find("\t" + instruction + " "), std::string::npos) << instruction;
  }

  // As a proof has them: wider where the variant is approximate.
  std::vector<float> bounds(const OutputSpans& output) const {
    const auto* const bound = reinterpret_cast<const float*>(rig_.memory() + output.bound.offset);
    const auto* const terms = reinterpret_cast<const float*>(rig_.memory() + output.terms.offset);
    std::vector<float> result(bound, bound + output.array.elements());
    if (!variant_.approximate.empty())
      for (size_t i = 0; i < result.size(); ++i)
        result[i] += static_cast<float>(variant_.approximate_terms) * terms[i];
    return result;
  }

  void write_calls() const {
    Numbers to(folder_ / "calls");
    to.add(static_cast<int64_t>(rig_.plan().cases.size()));
    for (const Case& c : rig_.plan().cases) {
      const devices::Call call = call_of(c);
      const devices::KernelArguments arguments = devices::arguments_of(call);
      to.add(static_cast<int64_t>(c.dims.items().size()));
      for (const auto& [name, value] : c.dims.items()) to.add(value);
      to.add(static_cast<int64_t>(c.scalars.size()));
      for (const double scalar : c.scalars) to.add(std::llround(scalar * 1e12));
      to.add(static_cast<int64_t>(c.inputs.size()));
      for (const Span& span : c.inputs) {
        to.add(span.bytes);
        to.add(rig_.memory() + span.offset, static_cast<size_t>(span.bytes));
        const auto strides = arguments.strides[&span - c.inputs.data()];
        for (size_t axis = 0; axis < 4; ++axis) to.add(int64_t{strides[axis]});
      }
      to.add(static_cast<int64_t>(c.outputs.size()));
      for (const OutputSpans& output : c.outputs) to.add(output.array.bytes());
      to.add(static_cast<int64_t>(call.scratch.size()));
      for (const int64_t bytes : call.scratch) to.add(bytes);
      to.add(static_cast<int64_t>(call.stages.size()));
      for (const spec::Stage& stage : call.stages) {
        to.add(stage.launch.grid[0]);
        to.add(stage.launch.group[0]);
        to.add(stage.index);
      }
    }
  }

  void judge() const {
    const std::string made = tests::text_of(folder_ / "made");
    size_t at = 0;
    for (const Case& c : rig_.plan().cases)
      for (const OutputSpans& output : c.outputs) {
        ASSERT_LE(at + static_cast<size_t>(output.array.bytes()), made.size());
        const std::vector<float> bound = bounds(output);
        const Compared what{made.data() + at,
                            rig_.memory() + output.expected.offset,
                            reinterpret_cast<const double*>(rig_.memory() + output.y64.offset),
                            bound.data(),
                            output.array.elements(),
                            output.array.type};
        const Comparison found = compare(what);
        EXPECT_LT(found.first_wrong, 0) << c.text() << ": " << explain(what, found.first_wrong);
        at += static_cast<size_t>(output.array.bytes());
      }
    EXPECT_EQ(at, made.size());
  }

  const spec::Op& op_;
  Dtype t_;
  ProofRig rig_;
  const spec::Variant& variant_;
  const Processor& processor_;
  spec::Setting knobs_;
  tests::TempDir folder_;
};

// "" if programs for AArch64 can be made and run.
std::string what_is_missing() {
  for (const char* tool : {kCompiler, kEmulator})
    if (!base::run_process({tool, "--version"}, 20).ok())
      return std::string("no ") + tool + " (Debian: g++-aarch64-linux-gnu, qemu-user)";
  return "";
}

TEST(ProductsOnAArch64, OfBfloat16ByItsDotProductsAreWithinTheirBounds) {
  if (const std::string what = what_is_missing(); !what.empty()) GTEST_SKIP() << what;
  const bool is_long = std::getenv("MLX_KD_LONG");
  for (const char* name : {"matvec", "matvec_gate_up", "matvec_qkv", "gather_matvec"}) {
    if (!is_long && name != std::string("matvec")) continue;
    SCOPED_TRACE(name);
    const spec::Op& op = kernels::find_op(name);
    OnAArch64(op, op.variants.front(), Dtype::bfloat16, kDots).expect_right();
  }
}

TEST(ProductsOnAArch64, WithXInInt8ByDotProductsOfBytesAreWithinTheirBounds) {
  if (const std::string what = what_is_missing(); !what.empty()) GTEST_SKIP() << what;
  const spec::Op& op = kernels::find_op("qmatvec");
  const spec::Variant& variant = op.variants.at(1);
  ASSERT_EQ(variant.name, "int8");
  for (const Processor* processor : {&kAllBytes, &kBytes}) {
    if (processor == &kBytes && !std::getenv("MLX_KD_LONG")) continue;
    SCOPED_TRACE(processor->march);
    OnAArch64(op, variant, Dtype::bfloat16, *processor).expect_right();
  }
}

// What a language model calls beside its products, as far as its kernels take kd_arguments.
TEST(OperatorsOnAArch64, OfLayersAreWithinTheirBounds) {
  if (!std::getenv("MLX_KD_LONG")) GTEST_SKIP() << "takes a minute: set MLX_KD_LONG=1";
  if (const std::string what = what_is_missing(); !what.empty()) GTEST_SKIP() << what;
  for (const char* name : {"attention", "attention_quantized", "expert_combine", "qembedding"})
    for (const Dtype t : spec::float_dtypes()) {
      SCOPED_TRACE(name + (" " + name_of(t)));
      const spec::Op& op = kernels::find_op(name);
      ASSERT_EQ(op.variants.front().language, "cpp");
      OnAArch64(op, op.variants.front(), t).expect_right();
    }
}

TEST(ProductsOnAArch64, AreWithinTheirBounds) {
  if (const std::string what = what_is_missing(); !what.empty()) GTEST_SKIP() << what;
  const bool is_long = std::getenv("MLX_KD_LONG");
  for (const spec::Op& op : kernels::all_ops()) {
    if (op.name.find("mat") == std::string::npos && op.name.find("gemm") == std::string::npos)
      continue;
    for (const Dtype t : spec::float_dtypes()) {
      const bool is_quick = (op.name == "qmatvec" && t == Dtype::bfloat16) ||
                            (op.name == "matmul" && t == Dtype::float16);
      if (!is_long && !is_quick) continue;
      for (const spec::Variant& variant : op.variants) {
        const bool is_other = &variant != &op.variants.front() && op.name != "matmul";
        if (variant.language != "cpp" || is_other) continue;
        SCOPED_TRACE(op.name + " " + variant.name + " " + name_of(t));
        OnAArch64(op, variant, t).expect_right();
      }
    }
  }
}

}  // namespace
}  // namespace mlx_kd::evaluate::aarch64_test

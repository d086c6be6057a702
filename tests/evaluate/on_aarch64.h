// Kernels compiled for AArch64's vectors and run under qemu on a proof's cases, judged as a proof
// does.
#pragma once

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "mlx_kd/base/process.h"
#include "mlx_kd/devices/kernel_arguments.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/proof_rig.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::evaluate {

inline const char kArmCompiler[] = "aarch64-linux-gnu-g++", kArmEmulator[] = "qemu-aarch64";

// "" if programs for AArch64 can be made and run.
inline std::string missing_for_aarch64() {
  for (const char* tool : {kArmCompiler, kArmEmulator})
    if (!base::run_process({tool, "--version"}, 20).ok())
      return std::string("no ") + tool + " (Debian: g++-aarch64-linux-gnu, qemu-user)";
  return "";
}

// What a processor has: the compiler's name of it, its instruction sets as DeviceTraits names them,
// and the instructions that must be in the kernel.
struct ArmProcessor {
  std::string march;
  std::vector<std::string> isa;
  std::vector<std::string> instructions;
};

// Follows a kernel's text: reads calls as OnAArch64 writes them, makes them and writes their
// outputs.
inline const char kArmMain[] = R"(
#ifndef KD_ARGUMENTS_H
#define KD_OUTPUTS 8
struct kd_arguments {
  const void* inputs[16];
  void* outputs[KD_OUTPUTS];
  void* scratch[4];
  long dims[16];
  double scalars[8];
  long strides[24][4];
  long stage;
};
#endif
#if TAKES_LISTS
#define CALL(stage, a, from, to) stage((a).inputs, (a).outputs, (a).dims, (a).scalars, from, to)
#else
#define CALL(stage, a, from, to) stage(&(a), from, to)
#endif
static void (*const kStages[])(KERNEL_PARAMETERS) = {STAGES};
static void take(void* to, long bytes, FILE* from) {
  if (bytes > 0 && fread(to, bytes, 1, from) != 1) exit(3);
}
static long number(FILE* from) {
  long value = 0;
  take(&value, sizeof value, from);
  return value;
}
static void* memory(long bytes) { return aligned_alloc(64, (bytes + 64) / 64 * 64); }
int main(int, char** names) {
  FILE* const in = fopen(names[1], "rb");
  FILE* const out = fopen(names[2], "wb");
  if (!in || !out) return 4;
  for (long calls = number(in); calls > 0; --calls) {
    kd_arguments a = {};
    const long dims = number(in);
    for (long i = 0; i < dims; ++i) a.dims[i] = number(in);
    const long scalars = number(in);
    take(a.scalars, scalars * sizeof(double), in);
    const long inputs = number(in);
    for (long i = 0; i < inputs; ++i) {
      const long bytes = number(in);
      void* const array = memory(bytes);
      take(array, bytes, in);
      a.inputs[i] = array;
    }
    const long outputs = number(in);
    long sizes[KD_OUTPUTS];
    for (long i = 0; i < outputs; ++i) {
      a.outputs[i] = memory(sizes[i] = number(in));
      memset(a.outputs[i], 0xff, sizes[i]);
      const long updated = number(in);
      if (updated < 0) continue;
      memcpy(a.outputs[i], a.inputs[updated], sizes[i]);
      a.inputs[updated] = a.outputs[i];
    }
    for (long i = 0; i < inputs + outputs; ++i) take(a.strides[i], sizeof a.strides[i], in);
    const long scratch = number(in);
    for (long i = 0; i < scratch; ++i) a.scratch[i] = memory(number(in));
    const long stages = number(in);
    for (long i = 0; i < stages; ++i) {
      const long which = number(in), units = number(in), each = number(in);
      a.stage = number(in);
      for (long from = 0; from < units; from += each)
        CALL(kStages[which], a, from, from + each < units ? from + each : units);
    }
    for (long i = 0; i < outputs; ++i)
      if (sizes[i] > 0 && fwrite(a.outputs[i], sizes[i], 1, out) != 1) return 6;
  }
  return fclose(out);
}
)";

class OnAArch64 {
 public:
  // At the operator's edge sizes, in the default setting of such a processor with one core; `knobs`
  // that its space does not have, or has with other defaults.
  OnAArch64(const spec::Op& op, const spec::Variant& variant, spec::Dtype t,
            const ArmProcessor& processor, const spec::Setting& knobs = {})
      : op_(op), t_(t), rig_(op, t, op.edge_sizes), variant_(variant), processor_(processor) {
    spec::DeviceTraits traits;
    traits.isa = processor.isa;
    const spec::Space space = variant.space(t, traits);
    knobs_ = spec::default_setting(space);
    for (const auto& [name, value] : knobs.items()) knobs_.set(name, value);
    candidate_ = spec::make_candidate(op, variant, t, knobs_, space,
                                      spec::complete(op, op.edge_sizes.front()));
  }

  void expect_right() {
    const Proof proof = run();
    EXPECT_EQ(proof.status, spec::Status::benchmarked) << proof.reason;
  }

  // With `wrong` in the place of `right`, the first in the kernel's text.
  void expect_wrong(const std::string& right, const std::string& wrong) {
    const size_t at = candidate_.source.find(right);
    ASSERT_NE(at, std::string::npos) << right;
    candidate_.source.replace(at, right.size(), wrong);
    EXPECT_EQ(run().status, spec::Status::wrong) << wrong;
  }

 private:
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

  // launch_error where it does not compile or run; a failure of the test as well.
  Proof run() {
    functions_.clear();
    for (const Case& c : rig_.plan().cases)
      for (const spec::Stage& stage : call_of(c).stages)
        if (place_of(stage.func_name) == functions_.size()) functions_.push_back(stage.func_name);
    Proof proof;
    proof.status = spec::Status::launch_error;
    if (!compile()) return proof;
    write_calls();
    const auto ran = base::run_process(
        {kArmEmulator, folder_ / "kernel", folder_ / "calls", folder_ / "made"}, 300);
    EXPECT_TRUE(ran.ok()) << ran.exit_code << " " << ran.signal << " " << ran.output;
    return ran.ok() ? judge() : proof;
  }

  devices::Call call_of(const Case& c) const {
    return devices::make_call(op_, variant_, t_, c.dims, knobs_, c.scalars);
  }

  size_t place_of(const std::string& function) const {
    size_t at = 0;
    while (at < functions_.size() && functions_[at] != function) ++at;
    return at;
  }

  bool compile() {
    std::string stages;
    for (const std::string& name : functions_) stages += (stages.empty() ? "" : ", ") + name;
    const bool lists = spec::abi_of("cpp", spec::launch_kind_of(candidate_)) == spec::Abi::lists;
    std::ofstream(folder_ / "kernel.cpp")
        << "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
        << candidate_.source << "\n#define TAKES_LISTS " << lists << "\n#define STAGES " << stages
        << "\n#define KERNEL_PARAMETERS "
        << (lists ? "const void* const*, void* const*, const long*, const double*, long, long"
                  : "const kd_arguments*, long, long")
        << "\n"
        << kArmMain;
    std::vector<std::string> argv = {kArmCompiler,      "-O2", "-std=c++20", "-ffp-contract=fast",
                                     "-fno-math-errno", "-w",  "-static"};
    for (const std::string& macro : devices::argument_macros(candidate_))
      argv.push_back("-D" + macro);
    argv.push_back("-march=" + processor_.march);
    argv.push_back(folder_ / "kernel.cpp");
    auto whole = argv;
    whole.insert(whole.end(), {"-o", folder_ / "kernel"});
    const auto made = base::run_process(whole, 300);
    EXPECT_TRUE(made.ok()) << made.output;
    if (made.ok() && !processor_.instructions.empty()) expect_instructions(argv);
    return made.ok();
  }

  // In the text that the compiler makes.
  void expect_instructions(std::vector<std::string> argv) const {
    argv.insert(argv.end(), {"-S", "-o", folder_ / "kernel.s"});
    ASSERT_TRUE(base::run_process(argv, 300).ok());
    const std::string text = tests::text_of(folder_ / "kernel.s");
    for (const std::string& instruction : processor_.instructions)
      EXPECT_NE(text.find("\t" + instruction + " "), std::string::npos) << instruction;
  }

  void write_calls() const {
    Numbers to(folder_ / "calls");
    to.add(static_cast<int64_t>(rig_.plan().cases.size()));
    for (const Case& c : rig_.plan().cases) write_call(c, to);
  }

  void write_call(const Case& c, Numbers& to) const {
    const devices::Call call = call_of(c);
    const devices::KernelArguments arguments = devices::arguments_of(call);
    to.add(static_cast<int64_t>(c.dims.items().size()));
    for (const auto& [name, value] : c.dims.items()) to.add(value);
    to.add(static_cast<int64_t>(c.scalars.size()));
    to.add(c.scalars.data(), c.scalars.size() * sizeof(double));
    to.add(static_cast<int64_t>(c.inputs.size()));
    for (const Span& span : c.inputs) {
      to.add(span.bytes);
      to.add(rig_.memory() + span.offset, static_cast<size_t>(span.bytes));
    }
    to.add(static_cast<int64_t>(c.outputs.size()));
    for (size_t i = 0; i < c.outputs.size(); ++i) {
      to.add(c.outputs[i].array.bytes());
      to.add(call.updated_input(i));
    }
    for (size_t i = 0; i < c.inputs.size() + c.outputs.size(); ++i)
      to.add(arguments.strides[i].data(), sizeof arguments.strides[i]);
    to.add(static_cast<int64_t>(call.scratch.size()));
    for (const int64_t bytes : call.scratch) to.add(bytes);
    to.add(static_cast<int64_t>(call.stages.size()));
    for (const spec::Stage& stage : call.stages) {
      to.add(static_cast<int64_t>(place_of(stage.func_name)));
      to.add(stage.launch.grid[0]);
      to.add(stage.launch.group[0]);
      to.add(stage.index);
    }
  }

  // The first case that is not right, or the last.
  Proof judge() const {
    const std::string made = tests::text_of(folder_ / "made");
    size_t at = 0;
    Proof proof;
    for (const Case& c : rig_.plan().cases) {
      std::vector<std::vector<char>> outputs;  // each in memory of its own, which is aligned
      std::vector<const void*> pointers;
      for (const OutputSpans& output : c.outputs) {
        const auto bytes = static_cast<size_t>(output.array.bytes());
        outputs.emplace_back(bytes);
        made.copy(outputs.back().data(), bytes, std::min(at, made.size()));
        pointers.push_back(outputs.back().data());
        at += bytes;
      }
      proof = rig_.judge(c, variant_, pointers);
      if (proof.status != spec::Status::benchmarked) return proof;
    }
    EXPECT_EQ(at, made.size());
    return proof;
  }

  const spec::Op& op_;
  spec::Dtype t_;
  ProofRig rig_;
  const spec::Variant& variant_;
  const ArmProcessor& processor_;
  spec::Setting knobs_;
  spec::Candidate candidate_;
  std::vector<std::string> functions_;  // of all stages
  tests::TempDir folder_;
};

}  // namespace mlx_kd::evaluate

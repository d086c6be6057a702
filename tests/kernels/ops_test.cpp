// What every operator says about itself: sizes, costs, launches, sources.
#include <gtest/gtest.h>

#include <cctype>
#include <cstdlib>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/process.h"
#include "mlx_kd/kernels/make_table.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/kernels/every_op.h"
#include "tests/kernels/support.h"
#include "tests/support/new_texts.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dims;
using spec::Dtype;

TEST(Ops, AreInOrderOfTheirNames) {
  for (size_t i = 1; i < all_ops().size(); ++i) EXPECT_LT(all_ops()[i - 1].name, all_ops()[i].name);
}

spec::Op faulty_op() {
  spec::Op op = find_op("swiglu");
  op.outputs[0].updates = "nothing";
  op.dims.push_back(op.dims[0]);
  return op;
}

TEST(Ops, WithFaultsAreRefusedWhenTheTableIsMade) {
  try {
    make_table({faulty_op});
    FAIL() << "nothing was refused";
  } catch (const base::Error& error) {
    const std::string text = error.what();
    for (const char* part :
         {"correct their op.cpp", "\n  swiglu: dims: the name ", " is taken twice",
          "\n  swiglu: outputs.out: it updates 'nothing', which is not an input"})
      EXPECT_NE(text.find(part), std::string::npos) << part << " is not in " << text;
    EXPECT_EQ(error.exit_code(), 1);
  }
}

TEST(Ops, HaveSuitesThatTheyAccept) {
  for (const spec::Op& op : all_ops()) {
    EXPECT_FALSE(op.suites.empty()) << op.name;
    for (const spec::Suite& suite : op.suites)
      for (const Dims& size : suite.sizes) {
        const Dims complete = spec::complete(op, size);
        EXPECT_EQ(spec::complete(op, complete), complete)
            << op.name << ": complete sizes stay as they are";
      }
  }
}

// Every size that the op names.
std::vector<Dims> named_sizes(const spec::Op& op) {
  std::vector<Dims> sizes = edge_sizes(op);
  for (const spec::Suite& suite : op.suites)
    for (const Dims& size : suite.sizes) sizes.push_back(spec::complete(op, size));
  return sizes;
}

// Bytes of the inputs that are there to be read, and of the outputs that are new.
struct Traffic {
  double read = 0, written = 0;
  bool updates = false;
  double updated = 0;  // the size of what an output updates
};
Traffic traffic_of(const spec::Op& op, const Dims& dims, Dtype dtype) {
  Traffic result;
  for (size_t i = 0; i < op.inputs.size(); ++i)
    if (spec::updating_output(op, i) < 0)
      result.read += static_cast<double>(array_of(op.inputs[i], dtype, dims).bytes());
  for (size_t i = 0; i < op.outputs.size(); ++i) {
    result.updates = result.updates || spec::updated_input(op, i) >= 0;
    (spec::updated_input(op, i) < 0 ? result.written : result.updated) +=
        static_cast<double>(array_of(op.outputs[i], dtype, dims).bytes());
  }
  return result;
}

// Of all experts, lists or tokens of a vocabulary, the chosen ones.
bool reads_chosen(const spec::Op& op) {
  return op.name.starts_with("gather_") || op.name.starts_with("ivf") || op.name == "qembedding";
}

// What an op may leave unread: one triangle of a symmetric matrix.
const std::set<std::string> kReadsHalf = {"cholesky", "eigh"};

// What updates all of its array, not some rows of a cache.
const std::set<std::string> kUpdatesAll = {"mlstm_step"};

// A kernel cannot move less than that, so a cost that counts more calls right kernels suspicious,
// and one that counts less hides those that skip work.
TEST(Ops, CostTheBytesOfTheirPorts) {
  for (const spec::Op& op : all_ops())
    for (const Dims& dims : named_sizes(op))
      for (Dtype dtype : op.types) {
        const spec::Cost cost = spec::cost_of(op, dims, dtype);
        const Traffic ports = traffic_of(op, dims, dtype);
        const std::string where = op.name + " " + dims.text() + " " + name_of(dtype);
        EXPECT_GE(cost.flops, 0) << where;
        if (reads_chosen(op)) {
          EXPECT_LE(cost.bytes, ports.read + ports.written) << where;
          EXPECT_GT(cost.bytes, ports.written) << where;
        } else if (kReadsHalf.count(op.name)) {
          EXPECT_LE(cost.bytes, ports.read + ports.written) << where;
          EXPECT_GE(cost.bytes, ports.read / 2 + ports.written) << where;
        } else if (kUpdatesAll.count(op.name)) {
          EXPECT_EQ(cost.bytes, ports.read + ports.written + 2 * ports.updated) << where;
        } else if (ports.updates) {
          // All that is read is written into what is updated, at most.
          EXPECT_LE(cost.bytes, 2 * ports.read + ports.written) << where;
          EXPECT_GT(cost.bytes, ports.read + ports.written) << where;
        } else {
          EXPECT_EQ(cost.bytes, ports.read + ports.written) << where;
        }
      }
}

// A gradient's kernels are beside those of its operator.
std::string folder_of(const spec::Op& op) {
  const std::string vjp = "_vjp";
  return op.name.ends_with(vjp) ? op.name.substr(0, op.name.size() - vjp.size()) : op.name;
}

TEST(Sources, AreFilesOfTheFolderOfTheirOperator) {
  for (const spec::Op& op : all_ops())
    for (const spec::Variant& variant : op.variants) {
      int found = 0;
      for (const auto& [path, text] : kernel_sources())
        found +=
            text == variant.source && path.find("/" + folder_of(op) + "/") != std::string::npos;
      EXPECT_EQ(found, 1) << op.name << " " << variant.language << " " << variant.name;
      EXPECT_NE(variant.source.find(variant.func_name), std::string::npos) << op.name;
    }
}

TEST(Sources, AreWholeTexts) {
  for (const auto& [path, text] : kernel_sources()) {
    EXPECT_EQ(text.find("#include \""), std::string::npos) << path;
    EXPECT_EQ(text.find("#pragma once"), std::string::npos) << path;
    const bool of_cpu = path.ends_with(".cpu.cpp");
    EXPECT_FALSE(of_cpu && text.find("#include") != std::string::npos) << path;
  }
}

// All but white space of what the compiler reads.
std::string preprocessed(const std::string& path) {
  base::ProcessResult result = base::run_process({"c++", "-E", "-P", path}, 60);
  EXPECT_TRUE(result.ok()) << result.output;
  std::erase_if(result.output, [](unsigned char c) { return std::isspace(c); });
  return result.output;
}

// An editor reads the files themselves, whose includes are relative.
TEST(Sources, AreWhatTheCompilerMakesOfTheFiles) {
  const std::string whole = (scratch_folder() / "whole.cpp").string();
  for (const auto& [path, text] : kernel_sources()) {
    if (!path.ends_with(".cpu.cpp")) continue;
    base::write_file_atomically(whole, text, "test");
    const std::string file = std::string(MLX_KD_SOURCE_DIR) + "/mlx_kd/kernels/" + path;
    EXPECT_TRUE(preprocessed(file) == preprocessed(whole)) << path;
  }
}

// For the running CPU and for plainer ones, the last with vectors wider than its registers.
std::vector<std::vector<std::string>> targets() {
  std::vector<std::vector<std::string>> all = {{}, {"-march=native"}};
#if defined(__x86_64__)
  all.push_back({"-march=x86-64-v3", "-DVEC=64", "-Wno-psabi"});
#endif
  return all;
}

// Reads a source, which is ten times as fast as to compile it whole.
void expect_no_warnings(const std::string& compiler, const std::string& path,
                        const std::vector<std::string>& target, Dtype dtype, bool whole) {
  std::vector<std::string> argv = {compiler,
                                   whole ? "-c" : "-fsyntax-only",
                                   "-O1",
                                   "-std=c++20",
                                   "-fno-math-errno",
                                   "-Wall",
                                   "-Wextra",
                                   "-Werror",
                                   std::string(MLX_KD_SOURCE_DIR) + "/mlx_kd/kernels/" + path,
                                   "-DSTREAM=1",
                                   "-DKD_DTYPE=" + std::to_string(static_cast<int>(dtype))};
  argv.insert(argv.end(), target.begin(), target.end());
  if (whole) argv.insert(argv.end(), {"-o", "/dev/null"});
  const base::ProcessResult result = base::run_process(argv, 60);
  EXPECT_TRUE(result.ok()) << base::list_of(argv) << "\n" << result.output;
}

// For the running CPU in all types, for the others in one, the next for each source; with
// MLX_KD_LONG everywhere in all. g++ compiles for the running CPU whole: in bfloat16 what has news,
// with MLX_KD_LONG all.
void expect_no_warnings_anywhere(const std::string& compiler, const std::string& path, size_t turn,
                                 bool has_news) {
  const auto types = spec::float_dtypes();
  const bool is_long = std::getenv("MLX_KD_LONG");
  for (const std::vector<std::string>& target : targets()) {
    const bool native = target == std::vector<std::string>{"-march=native"};
    ++turn;
    for (size_t i = 0; i < types.size(); ++i) {
      if (!native && !is_long && i != turn % types.size()) continue;
      const bool whole =
          compiler == "g++" && native && (is_long || (has_news && types[i] == Dtype::bfloat16));
      expect_no_warnings(compiler, path, target, types[i], whole);
    }
  }
}

// By each compiler that is here; without MLX_KD_LONG by the first.
TEST(Sources, CompileByThemselvesWithoutWarnings) {
  int compilers = 0;
  for (const char* compiler : {"g++", "clang++"}) {
    if (compilers > 0 && !std::getenv("MLX_KD_LONG")) break;
    if (!base::run_process({compiler, "--version"}, 10).ok()) continue;
    ++compilers;
    tests::NewTexts texts;
    size_t turn = 0;
    for (const auto& [path, text] : kernel_sources())
      if (path.ends_with(".cpu.cpp"))
        expect_no_warnings_anywhere(compiler, path, turn++, texts.has_news(text));
  }
  if (compilers == 0) GTEST_SKIP() << "needs g++ or clang++";
}

}  // namespace
}  // namespace mlx_kd::kernels

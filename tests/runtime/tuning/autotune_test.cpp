// mlx_kd::autotune: what runs before and after a setting is proved, and what it refuses.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <cstdlib>
#include <filesystem>

#include "mlx_kd/mlx_kd.h"

namespace mlx_kd::runtime {
namespace {

namespace fs = std::filesystem;
namespace mx = mlx::core;
using Arrays = std::vector<mx::array>;
using Knobs = AutotuneKernel::Knobs;

// The Python whose MLX this program is linked with; empty: there is none.
fs::path python_of_mlx() {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<void*>(&mx::version), &info) || !info.dli_fname) return {};
  for (fs::path at = fs::path(info.dli_fname).parent_path(); at.has_relative_path();
       at = at.parent_path())
    if (fs::exists(at / "bin" / "python")) return at / "bin" / "python";
  return {};
}

class AutotuneTest : public testing::Test {
 protected:
  void SetUp() override {
    mx::set_default_device(mx::Device::cpu);
    std::string name = (fs::temp_directory_path() / "kd_autotune_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder = name;
    setenv("MLX_KD_PROGRAM", MLX_KD_PROGRAM, 1);
  }
  void TearDown() override {
    fs::remove_all(folder);
    unsetenv("MLX_KD_AUTOTUNE");
  }

  // y = factor x, for a reference that doubles.
  AutotuneKernel kernel(int factor = 2) const {
    AutotuneKernel result;
    result.name = "scaled";
    result.input_names = {"x"};
    result.output_names = {"y"};
    result.source = "uint i = thread_position_in_grid.x; y[i] = T(FACTOR) * x[i];";
    result.header = "#define FACTOR " + std::to_string(factor) + "\n";
    result.launch = [this](const Arrays& in, const Knobs& knobs) {
      if (refuses) throw std::invalid_argument("no launch for these");
      ++launches;
      AutotuneKernel::Launch launch;
      launch.grid[0] = static_cast<int64_t>(in[0].size());
      launch.group[0] = knobs[0].second;
      launch.output_shapes = {in[0].shape()};
      launch.output_dtypes = {in[0].dtype()};
      return launch;
    };
    return result;
  }

  Autotune options() const {
    Autotune result;
    result.knobs = {{"TG", {32, 64}}};
    result.reference = [this](const Arrays& in) {
      ++references;
      return Arrays{mx::add(in[0], in[0])};
    };
    result.budget = 1;
    result.folder = folder;
    return result;
  }

  static double sum(const Autotuned& f, int n) {
    return mx::sum(f({mx::ones({n})})[0]).item<float>();
  }

  fs::path folder;
  bool refuses = false;
  mutable int launches = 0, references = 0;
};

TEST_F(AutotuneTest, RunsTheReferenceUntilASettingIsProvedAndThenTheKernel) {
  const fs::path python = python_of_mlx();
  if (python.empty()) GTEST_SKIP() << "references need a Python with MLX";
  setenv("MLX_KD_PYTHON", python.c_str(), 1);
  Autotuned scaled = autotune(kernel(), options());
  EXPECT_EQ(sum(scaled, 64), 128);
  EXPECT_TRUE(scaled.settings().empty());
  EXPECT_EQ(references, 1);
  const auto settings = scaled.prepare({{mx::zeros({64})}});
  ASSERT_EQ(settings.size(), 1u);
  EXPECT_EQ(settings[0].rfind("float32 [64]: TG=", 0), 0u) << settings[0];
  references = 0;
  EXPECT_EQ(sum(scaled, 64), 128);
  EXPECT_EQ(references, 0);
  EXPECT_EQ(sum(scaled, 32), 64);  // another size, of which nothing is proved
  EXPECT_EQ(references, 1);
  // What is kept serves later processes with the same kernel and knobs, and no others.
  const Autotuned again = autotune(kernel(), options());
  EXPECT_EQ(sum(again, 64), 128);
  EXPECT_EQ(again.settings(), settings);
  Autotune changed = options();
  changed.knobs = {{"TG", {32, 128}}};
  const Autotuned other = autotune(kernel(), changed);
  EXPECT_EQ(sum(other, 64), 128);
  EXPECT_TRUE(other.settings().empty());
  // The pack is one that Tuned calls.
  const fs::path place = fs::directory_iterator(folder)->path();
  const Tuned tuned(place / "pack.json");
  EXPECT_EQ(mx::sum(tuned({mx::ones({64})})[0]).item<float>(), 128);
}

TEST_F(AutotuneTest, NeverServesAKernelThatIsWrong) {
  const fs::path python = python_of_mlx();
  if (python.empty()) GTEST_SKIP() << "references need a Python with MLX";
  setenv("MLX_KD_PYTHON", python.c_str(), 1);
  Autotuned scaled = autotune(kernel(3), options());
  try {
    scaled.prepare({{mx::zeros({64})}});
    FAIL() << "a wrong kernel was taken";
  } catch (const base::Error& error) {
    EXPECT_NE(std::string(error.what()).find("at its defaults"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(scaled.settings().empty());
  EXPECT_EQ(sum(scaled, 64), 128);
}

TEST_F(AutotuneTest, ServesDefaultsWhereTheyAreAskedFor) {
  Autotune asked = options();
  asked.serve_default = true;
  const Autotuned scaled = autotune(kernel(3), asked);
  EXPECT_EQ(sum(scaled, 64), 192);
  EXPECT_EQ(references, 0);
  EXPECT_TRUE(scaled.settings().empty());
}

TEST_F(AutotuneTest, IsSwitchedOffByTheEnvironment) {
  setenv("MLX_KD_AUTOTUNE", "0", 1);
  Autotune asked = options();
  asked.serve_default = true;
  Autotuned scaled = autotune(kernel(3), asked);
  EXPECT_EQ(sum(scaled, 64), 128);
  EXPECT_TRUE(scaled.prepare({{mx::zeros({64})}}).empty());
  EXPECT_EQ(launches, 0);
}

TEST_F(AutotuneTest, RefusesWhatCannotBeTuned) {
  Autotune without = options();
  without.knobs.clear();
  EXPECT_THROW(autotune(kernel(), without), base::Error);
  without = options();
  without.knobs = {{"TG", {}}};
  EXPECT_THROW(autotune(kernel(), without), base::Error);
  without = options();
  without.reference = {};
  EXPECT_THROW(autotune(kernel(), without), base::Error);
  AutotuneKernel lacking = kernel();
  lacking.launch = {};
  EXPECT_THROW(autotune(lacking, options()), base::Error);
  Autotuned scaled = autotune(kernel(), options());
  EXPECT_THROW(scaled.prepare({{mx::zeros({64}), mx::zeros({64})}}), base::Error);
  EXPECT_THROW(scaled.prepare({{mx::array(1.0f)}}), base::Error);
  refuses = true;
  EXPECT_THROW(scaled.prepare({{mx::zeros({64})}}), base::Error);
  refuses = false;
  Autotune reads = options();
  reads.reference = [](const Arrays& in) {
    if (mx::sum(in[0]).item<float>() > 1e30f) return in;
    throw std::runtime_error("it reads values");
    return in;
  };
  EXPECT_THROW(autotune(kernel(), reads).prepare({{mx::zeros({64})}}), base::Error);
}

}  // namespace
}  // namespace mlx_kd::runtime

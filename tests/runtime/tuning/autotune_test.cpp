// mlx_kd::autotune: what runs before and after a setting is proved, and what it refuses.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

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
  // Neither do they serve one of another reference, or of another launch.
  Autotune tripled = options();
  tripled.reference = [](const Arrays& in) { return Arrays{3 * in[0]}; };
  const Autotuned unproved = autotune(kernel(), tripled);
  EXPECT_EQ(sum(unproved, 64), 192);
  EXPECT_TRUE(unproved.settings().empty());
  AutotuneKernel halved = kernel();
  halved.launch = [launch = halved.launch](const Arrays& in, const Knobs& knobs) {
    AutotuneKernel::Launch result = launch(in, knobs);
    result.grid[0] /= 2;
    return result;
  };
  EXPECT_EQ(sum(autotune(halved, options()), 64), 128);
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

Autotune in_the_background(Autotune options) {
  options.background = true;
  return options;
}

// Until it is true, ten minutes at most.
bool becomes_true(const std::function<bool()>& holds) {
  for (int turn = 0; turn < 6000 && !holds(); ++turn)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  return holds();
}

TEST_F(AutotuneTest, TunesInTheBackgroundWhatIsCalled) {
  const fs::path python = python_of_mlx();
  if (python.empty()) GTEST_SKIP() << "references need a Python with MLX";
  setenv("MLX_KD_PYTHON", python.c_str(), 1);
  const Autotuned scaled = autotune(kernel(), in_the_background(options()));
  EXPECT_EQ(sum(scaled, 64), 128);
  ASSERT_TRUE(becomes_true([&] { return !scaled.settings().empty(); }));
  references = 0;
  EXPECT_EQ(sum(scaled, 64), 128);
  EXPECT_EQ(references, 0);
  EXPECT_TRUE(scaled.failures().empty());
  // A wrong kernel is reported once, and the reference keeps serving the calls.
  const Autotuned wrong = autotune(kernel(3), in_the_background(options()));
  EXPECT_EQ(sum(wrong, 64), 128);
  ASSERT_TRUE(becomes_true([&] { return !wrong.failures().empty(); }));
  EXPECT_NE(wrong.failures()[0].find("float32 [64]: "), std::string::npos) << wrong.failures()[0];
  EXPECT_NE(wrong.failures()[0].find("at its defaults"), std::string::npos) << wrong.failures()[0];
  EXPECT_EQ(sum(wrong, 64), 128);
}

// A program in the place of kd that says whether the file of --pause is new after a while.
class Pausing : public AutotuneTest {
 protected:
  void SetUp() override {
    AutotuneTest::SetUp();
    std::ofstream(folder / "kd")
        << "#!/bin/sh\n"
           "while [ $# -gt 0 ]; do [ \"$1\" = --pause ] && file=$2; shift; "
           "done\necho started >> "
        << (folder / "started").string()
        << "\nsleep ${SLEEP:-3}\nif [ -n \"$(find \"$file\" -newermt '-2 seconds')\" ]; then "
           "echo in use; else echo not in use; fi\nexit 1\n";
    fs::permissions(folder / "kd", fs::perms::owner_all);
    setenv("MLX_KD_PROGRAM", (folder / "kd").c_str(), 1);
  }
  void TearDown() override {
    unsetenv("SLEEP");
    AutotuneTest::TearDown();
  }
};

TEST_F(Pausing, TheOtherProcessIsToldOfCallsWhileItRuns) {
  const Autotuned scaled = autotune(kernel(), in_the_background(options()));
  sum(scaled, 64);
  EXPECT_TRUE(becomes_true([&] {
    sum(scaled, 64);
    return !scaled.failures().empty();
  }));
  EXPECT_NE(scaled.failures()[0].find(" in use"), std::string::npos) << scaled.failures()[0];
  EXPECT_EQ(scaled.failures()[0].find("not in use"), std::string::npos) << scaled.failures()[0];
  const Autotuned quiet = autotune(kernel(4), in_the_background(options()));
  sum(quiet, 64);
  EXPECT_TRUE(becomes_true([&] { return !quiet.failures().empty(); }));
  EXPECT_NE(quiet.failures()[0].find("not in use"), std::string::npos) << quiet.failures()[0];
}

TEST_F(Pausing, ItEndsWithTheLastCopyOfTheFunction) {
  setenv("SLEEP", "600", 1);
  const auto start = std::chrono::steady_clock::now();
  {
    const Autotuned scaled = autotune(kernel(), in_the_background(options()));
    sum(scaled, 64);
    ASSERT_TRUE(becomes_true([&] { return fs::exists(folder / "started"); }));
    const Autotuned copy = scaled;
    EXPECT_EQ(sum(copy, 64), 128);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(300));
}

TEST_F(AutotuneTest, ServesDefaultsWhereTheyAreAskedFor) {
  Autotune asked = options();
  asked.serve_default = true;
  const Autotuned scaled = autotune(kernel(3), asked);
  EXPECT_EQ(sum(scaled, 64), 192);
  EXPECT_EQ(references, 0);
  EXPECT_TRUE(scaled.settings().empty());
}

TEST_F(AutotuneTest, TellsOnceOfSizesThatChangeAtEveryCall) {
  const Autotuned scaled = autotune(kernel(), options());
  testing::internal::CaptureStderr();
  for (int n = 1; n <= 2200; ++n) scaled({mx::zeros({n})});
  const std::string told = testing::internal::GetCapturedStderr();
  const size_t first = told.find("called with more than 1024 sizes");
  EXPECT_NE(first, std::string::npos) << told;
  EXPECT_EQ(told.find("called with more than 1024 sizes", first + 1), std::string::npos) << told;
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

#include "mlx_kd/devices/host/compiler.h"

#include <sys/wait.h>

#include <chrono>
#include <fstream>
#include <set>
#include <thread>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "tests/devices/small_kernels.h"

namespace mlx_kd::devices::cpu {
namespace {

class CompilerTest : public WithCache {
 protected:
  static Compiler compiler() { return Compiler(find_toolchain(), ObjectCache::from_environment()); }
};

void expect_error(const std::function<void()>& act, int exit_code, const std::string& part) {
  try {
    act();
    ADD_FAILURE() << "no error";
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), exit_code) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST_F(CompilerTest, RefusalIsTheFirstErrorLineWithoutThePlaceOfTheFile) {
  auto candidate = add_candidate();
  candidate.source =
      "int warned() { }\nint f() { return missing_name; }\nint g() { return other; }\n";
  const Artifact artifact = compiler().compile(candidate, 60);
  EXPECT_FALSE(artifact.ok);
  EXPECT_FALSE(artifact.timed_out);
  EXPECT_EQ(artifact.error.rfind("kernel.cpp:2:", 0), 0u) << artifact.error;
  EXPECT_NE(artifact.error.find("missing_name"), std::string::npos) << artifact.error;
  EXPECT_EQ(artifact.error.find('\n'), std::string::npos);
}

// A compiler that tells its version and then never ends.
TEST_F(CompilerTest, ALongCompileEndsAtItsTimeLimit) {
  const fs::path slow = folder() / "slow-c++";
  std::ofstream(slow) << "#!/bin/sh\n[ \"$1\" = --version ] && echo slow 1.0 || sleep 600\n";
  fs::permissions(slow, fs::perms::owner_all);
  const Variable own("MLX_KD_CXX", slow);
  const Artifact artifact = compiler().compile(add_candidate(), 0.2);
  EXPECT_FALSE(artifact.ok);
  EXPECT_TRUE(artifact.timed_out);
  EXPECT_NE(artifact.error.find("took longer"), std::string::npos) << artifact.error;
  EXPECT_EQ(compiler().cache().usage().entries, 0);
}

TEST_F(CompilerTest, TheSecondCompileIsFoundOnDisk) {
  const Artifact first = compiler().compile(add_candidate(), 60);
  ASSERT_TRUE(first.ok) << first.error;
  EXPECT_FALSE(first.cached);
  EXPECT_GT(first.compile_ms, 0);
  const Artifact second = compiler().compile(add_candidate(), 60);
  EXPECT_TRUE(second.cached);
  EXPECT_EQ(second.path, first.path);
  EXPECT_DOUBLE_EQ(second.compile_ms, first.compile_ms);
}

TEST_F(CompilerTest, AnotherProcessFindsWhatThisOneCompiled) {
  ASSERT_TRUE(compiler().compile(add_candidate(), 60).ok);
  const pid_t child = fork();
  if (child == 0) _exit(compiler().compile(add_candidate(), 60).cached ? 0 : 1);
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_F(CompilerTest, SourceKnobsAndTypesMakeAnotherObjectLaunchKnobsDoNot) {
  const auto one = compiler();
  const auto base = one.compile(add_candidate(), 60).path;
  auto threads = add_candidate();
  threads.knobs.set("THREADS", 2);
  threads.launch_params["THREADS"] = 2;
  EXPECT_EQ(one.compile(threads, 60).path, base);
  EXPECT_NE(one.compile(add_candidate(spec::Dtype::float32, 3), 60).path, base);
  EXPECT_NE(one.compile(add_candidate(spec::Dtype::float16), 60).path, base);
}

TEST_F(CompilerTest, AnotherInstructionSetMakesAnotherObject) {
#ifdef __x86_64__
  const auto native = compiler().compile(add_candidate(), 60).path;
  const Variable march("MLX_KD_MARCH", "x86-64-v3");
  const Artifact named = compiler().compile(add_candidate(), 60);
  ASSERT_TRUE(named.ok) << named.error;
  EXPECT_NE(named.path, native);
#else
  GTEST_SKIP() << "names an instruction set of x86";
#endif
}

TEST_F(CompilerTest, AnUnknownInstructionSetIsARefusalOfTheCompiler) {
  const Variable march("MLX_KD_MARCH", "no-such-set");
  const Artifact artifact = compiler().compile(add_candidate(), 60);
  EXPECT_FALSE(artifact.ok);
  EXPECT_NE(artifact.error.find("no-such-set"), std::string::npos) << artifact.error;
}

TEST_F(CompilerTest, ThreadsAndProcessesMayCompileTheSameKernelAtOnce) {
  std::vector<pid_t> children;
  for (int i = 0; i < 3; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(compiler().compile(add_candidate(), 60).ok ? 0 : 1);
    children.push_back(child);
  }
  const auto one = compiler();
  std::vector<Artifact> artifacts(3);
  std::vector<std::thread> threads;
  for (Artifact& artifact : artifacts)
    threads.emplace_back([&] { artifact = one.compile(add_candidate(), 60); });
  for (auto& thread : threads) thread.join();
  for (const pid_t child : children) {
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  std::set<fs::path> paths;
  for (const Artifact& artifact : artifacts) {
    EXPECT_TRUE(artifact.ok) << artifact.error;
    EXPECT_TRUE(one.cache().holds(artifact.path));
    paths.insert(artifact.path);
  }
  EXPECT_EQ(paths.size(), 1u);
  EXPECT_EQ(one.cache().usage().entries, 1);
}

TEST_F(CompilerTest, AChangedObjectIsCompiledAgain) {
  const Artifact first = compiler().compile(add_candidate(), 60);
  ASSERT_TRUE(first.ok);
  const std::string whole = base::read_file(first.path, "test");
  std::ofstream(first.path, std::ios::binary | std::ios::app) << "x";
  EXPECT_FALSE(compiler().cache().holds(first.path));
  const Artifact second = compiler().compile(add_candidate(), 60);
  EXPECT_TRUE(second.ok);
  EXPECT_FALSE(second.cached);
  EXPECT_TRUE(compiler().cache().holds(second.path));
  EXPECT_EQ(base::read_file(second.path, "test").size(), whole.size());
}

TEST_F(CompilerTest, WithoutACompilerTheErrorSaysWhatToInstall) {
  const Variable path("PATH", "/nonexistent");
  const Variable cxx("CXX", "");
  const Variable own("MLX_KD_CXX", "");
  expect_error([] { find_toolchain(); }, 1, "apt install g++");
}

TEST_F(CompilerTest, ACompilerThatDoesNotStartIsMisuse) {
  const Variable own("MLX_KD_CXX", "/nonexistent/c++");
  expect_error([] { find_toolchain(); }, 2, "/nonexistent/c++");
}

}  // namespace
}  // namespace mlx_kd::devices::cpu

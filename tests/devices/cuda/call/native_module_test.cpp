// The module for MLX's CUDA graphs: what is refused before any of it runs. Needs no GPU.
#include "mlx_kd/devices/cuda/call/native_module.h"

#include <gtest/gtest.h>
#include <mlx/device.h>
#include <mlx/version.h>

#include <cstdlib>
#include <fstream>

#include "mlx_kd/base/process.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/host/compiler.h"
#include "tests/devices/cuda/refusals.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace fs = std::filesystem;

// An MLX whose one header is "int a;".
class FakeMlx {
 public:
  FakeMlx() {
    fs::create_directories(folder_.path() / "mlx");
    std::ofstream(folder_.path() / "mlx/a.h") << "int a;";
    headers_ = "mlx/a.h=" + base::sha256_hex("int a;") + ";";
  }
  NativeTarget target() const { return {"0.32.4", folder_.path(), {13}}; }
  const std::string& headers() const { return headers_; }
  const fs::path& folder() const { return folder_.path(); }

 private:
  tests::TempDir folder_;
  std::string headers_;
};

TEST(NativeModule, FitsTheMlxItWasBuiltFor) {
  const FakeMlx mlx;
  EXPECT_EQ(why_not({kNativeInterface, "0.32.4", 13, mlx.headers().c_str()}, mlx.target()), "");
}

TEST(NativeModule, IsRefusedByInterfaceVersionCudaAndHeaders) {
  const FakeMlx mlx;
  const char* headers = mlx.headers().c_str();
  const auto why = [&](const NativeAbout& about) { return why_not(about, mlx.target()); };
  EXPECT_TRUE(has(why({kNativeInterface + 1, "0.32.4", 13, headers}), "another build of mlx-kd"));
  EXPECT_EQ(why({kNativeInterface, "0.33.0", 13, headers}),
            "it was built for MLX 0.33.0, and this is MLX 0.32.4");
  EXPECT_TRUE(has(why({kNativeInterface, "0.32.4", 12, headers}), "built for CUDA 12"));
  EXPECT_TRUE(has(why({kNativeInterface, "0.32.4", 13, "mlx/b.h=0;"}), "mlx/b.h"));
  EXPECT_TRUE(has(why({kNativeInterface, "0.32.4", 13, "mlx/a.h=0;"}),
                  "mlx/a.h is not the one that it was built with"));
}

// A shared library that says what it was built for, and fails the test if more of it is run.
fs::path fake_module(const fs::path& folder, const std::string& version,
                     const std::string& headers) {
  const fs::path source = folder / "fake.cpp", library = folder / "fake.so";
  std::ofstream(source) << R"(#include <cstdlib>
struct About { int interface; const char* version; int cuda; const char* headers; };
extern "C" const About* mlx_kd_cuda_native_about() {
  static const About about = {)"
                        << kNativeInterface << ", \"" << version << "\", 13, \"" << headers
                        << R"("};
  return &about;
}
extern "C" const void* mlx_kd_cuda_native(const void*) { std::abort(); }
)";
  const base::ProcessResult made = base::run_process(
      {cpu::find_toolchain().program, "-shared", "-fPIC", "-o", library.string(), source.string()},
      60);
  EXPECT_TRUE(made.ok()) << made.output;
  return library;
}

TEST(NativeModule, OfAnotherMlxIsRefusedAtLoad) {
  const FakeMlx mlx;
  const fs::path module = fake_module(mlx.folder(), "0.31.0", mlx.headers());
  std::string why;
  EXPECT_EQ(load_native(module, mlx.target(), why), nullptr);
  EXPECT_TRUE(has(why, "fake.so: it was built for MLX 0.31.0, and this is MLX 0.32.4")) << why;
}

TEST(NativeModule, WithOtherHeadersIsRefusedAtLoad) {
  const FakeMlx mlx;
  const fs::path module = fake_module(mlx.folder(), "0.32.4", "mlx/a.h=0;");
  std::string why;
  EXPECT_EQ(load_native(module, mlx.target(), why), nullptr);
  EXPECT_TRUE(has(why, "mlx/a.h is not the one")) << why;
}

TEST(NativeModule, ThatIsNoneIsRefusedAtLoad) {
  const FakeMlx mlx;
  std::string why;
  EXPECT_EQ(load_native(mlx.folder() / "absent.so", mlx.target(), why), nullptr);
  EXPECT_TRUE(has(why, "absent.so")) << why;
  std::ofstream(mlx.folder() / "text.so") << "not a library";
  EXPECT_EQ(load_native(mlx.folder() / "text.so", mlx.target(), why), nullptr);
  EXPECT_FALSE(why.empty());
}

// The module of this build, with an MLX that has no encoder: its functions are missing, and that
// is a reason, not a crash.
TEST(NativeModule, OnAnMlxWithoutCudaIsRefused) {
  if (mlx::core::is_available(mlx::core::Device::gpu)) GTEST_SKIP() << "this MLX has CUDA";
  std::string why;
  EXPECT_EQ(find_native(&why), nullptr);
  EXPECT_EQ(why, "this MLX has no CUDA");
  const fs::path module = fs::path(MLX_KD_PROGRAM).parent_path() / "libmlx_kd_cuda_native.so";
  if (!fs::exists(module)) GTEST_SKIP() << "the module was not built";
  NativeTarget target = present_target();
  target.cuda_majors = {12, 13, 14};
  EXPECT_EQ(load_native(module, target, why), nullptr);
  EXPECT_TRUE(has(why, "undefined symbol")) << why;
}

TEST(NativeModule, IsLookedForBesideTheProgramUnlessItIsNamed) {
  EXPECT_FALSE(native_places().empty());
  setenv("MLX_KD_CUDA_NATIVE", "/some/module.so", 1);
  EXPECT_EQ(native_places(), std::vector<fs::path>{"/some/module.so"});
  setenv("MLX_KD_CUDA_NATIVE", "0", 1);
  EXPECT_TRUE(native_places().empty());
  unsetenv("MLX_KD_CUDA_NATIVE");
}

}  // namespace
}  // namespace mlx_kd::devices::cuda

// A disk that fills up under kd run: exit 1, and a run directory that is still good.
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "tests/support/run_cli.h"

namespace mlx_kd::tests {
namespace {

namespace fs = std::filesystem;

// A file system of `kib` KiB at a folder, gone with the object.
class SmallDisk {
 public:
  SmallDisk(const fs::path& at, int kib) : at_(at) {
    fs::create_directory(at);
    mounted_ =
        mount("tmpfs", at.c_str(), "tmpfs", 0, ("size=" + std::to_string(kib) + "k").c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) umount(at_.c_str());
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }
  void grow(int kib) const {
    mount("tmpfs", at_.c_str(), "tmpfs", MS_REMOUNT, ("size=" + std::to_string(kib) + "k").c_str());
  }

 private:
  fs::path at_;
  bool mounted_ = false;
};

std::vector<std::string> run_on(const fs::path& out, std::vector<std::string> more = {}) {
  std::vector<std::string> args = {"run",      "--op", "rmsnorm", "--device",  "null",
                                   "--budget", "120",  "--out",   out.string()};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

TEST(FullDisk, EndsARunThatGoesOnOnceThereIsRoom) {
  const TempDir dir;
  const SmallDisk disk(dir / "disk", 160);
  if (!disk.mounted()) GTEST_SKIP() << "cannot mount a small disk here: " << std::strerror(errno);
  const fs::path run = dir / "disk" / "run";
  const auto full = run_cli(run_on(run));
  EXPECT_EQ(full.code, 1);
  EXPECT_NE(full.err.find("No space left on device"), std::string::npos) << full.err;
  EXPECT_FALSE(fs::exists(run / "best_kernels.json"));

  disk.grow(16 << 10);
  const auto resumed = run_cli(run_on(run, {"--resume"}));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  ASSERT_EQ(run_cli(run_on(dir / "unbroken")).code, 0);
  EXPECT_EQ(text_of(run / "best_kernels.json"), text_of(dir / "unbroken" / "best_kernels.json"));
}

}  // namespace
}  // namespace mlx_kd::tests

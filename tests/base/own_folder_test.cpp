#include "mlx_kd/base/own_folder.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

namespace mlx_kd::base {
namespace {

namespace fs = std::filesystem;

fs::path program_folder() {
  return fs::read_symlink("/proc/self/exe").parent_path();
}

TEST(OwnFolder, IsThatOfTheProgram) {
  EXPECT_EQ(own_folder(), program_folder());
}

// The current folder has a file of the program's bare name, as a checkout has a script kd.
TEST(OwnFolder, IsNotTheCurrentFolderForABareName) {
  if (getenv("MLX_KD_OWN_FOLDER_TEST")) {
    EXPECT_EQ(own_folder(), program_folder());
    return;
  }
  const fs::path folder = fs::path(testing::TempDir()) / ("own_folder_" + std::to_string(getpid()));
  fs::create_directories(folder);
  std::ofstream(folder / "bare") << "";
  const pid_t child = fork();
  if (child == 0) {
    if (chdir(folder.c_str()) != 0) _exit(3);
    setenv("MLX_KD_OWN_FOLDER_TEST", "1", 1);
    execl("/proc/self/exe", "bare", "--gtest_filter=OwnFolder.IsNotTheCurrentFolderForABareName",
          nullptr);
    _exit(4);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace mlx_kd::base

#include "mlx_kd/base/files.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "mlx_kd/base/error.h"

namespace mlx_kd::base {
namespace {

class Files : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "mlx_kd_files_XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  void TearDown() override { fs::remove_all(folder_); }
  size_t entries() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), {}));
  }
  fs::path folder_;
};

TEST_F(Files, AtomicWriteReplacesAndLeavesNothingElse) {
  write_file_atomically(folder_ / "a", "one", "base");
  write_file_atomically(folder_ / "a", "two", "base");
  EXPECT_EQ(read_file(folder_ / "a", "base"), "two");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, AtomicWriteMakesTheFolder) {
  write_file_atomically(folder_ / "new" / "a", "one", "base");
  EXPECT_EQ(read_file(folder_ / "new" / "a", "base"), "one");
}

TEST_F(Files, AtomicWriteBelowAFileFailsWithTheReason) {
  write_file_atomically(folder_ / "file", "one", "base");
  EXPECT_THROW(write_file_atomically(folder_ / "file" / "a", "two", "base"), Error);
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, ReadRefusesFoldersMissingAndHugeFiles) {
  EXPECT_THROW(read_file(folder_, "base"), Error);
  EXPECT_THROW(read_file(folder_ / "no", "base"), Error);
  write_file_atomically(folder_ / "a", "12345", "base");
  EXPECT_THROW(read_file(folder_ / "a", "base", 4), Error);
  EXPECT_EQ(read_file(folder_ / "a", "base", 5), "12345");
}

TEST_F(Files, ALockIsHeldByOneAtATime) {
  auto first = FileLock::try_take(folder_ / "lock", "base");
  ASSERT_TRUE(first);
  EXPECT_FALSE(FileLock::try_take(folder_ / "lock", "base"));
  first.reset();
  EXPECT_TRUE(FileLock::try_take(folder_ / "lock", "base"));
}

// A file size limit stands in for a full disk: the write is refused in the middle of a record.
TEST_F(Files, AppendOnAFullDiskKeepsWholeRecordsOnly) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{25, 25};
    setrlimit(RLIMIT_FSIZE, &limit);
    AppendFile file(folder_ / "log", "base");
    file.append("0123456789\n");
    file.append("0123456789\n");
    try {
      file.append("0123456789\n");
    } catch (const Error& error) {
      _exit(error.exit_code());
    }
    _exit(9);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_EQ(read_file(folder_ / "log", "base"), "0123456789\n0123456789\n");
}

}  // namespace
}  // namespace mlx_kd::base

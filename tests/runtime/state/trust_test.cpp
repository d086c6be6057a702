// A pack is code: who may have written it, and what a damaged one does.
#include <sys/stat.h>
#include <unistd.h>

#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

namespace fs = std::filesystem;
const spec::Dims kTrustSize = {{"rows", 2}, {"D", 8}};

class Trusted : public Pinned {
 protected:
  void SetUp() override {
    fs::create_directory(folder_ / "packs");
    packs::Pack pack;
    pack.entries = {marking_entry("rmsnorm", kTrustSize, 42)};
    packs::write_pack(path(), pack);
    fs::permissions(path(), fs::perms(0644));
  }
  void TearDown() override { fs::permissions(folder_ / "packs", fs::perms::owner_all); }

  std::string path() const { return folder_ / "packs/pins.json"; }
  static std::string refused(const std::string& pack) {
    return refusal<base::Error>([&] { enable(pack); });
  }
};

TEST_F(Trusted, AFileOfTheUserThatNobodyElseCanWriteIsLoaded) {
  enable(path());
  EXPECT_EQ(stats().pins.size(), 1u);
}

TEST_F(Trusted, AFileThatOthersCanWriteIsNot) {
  for (const int mode : {0664, 0646, 0666}) {
    ::chmod(path().c_str(), static_cast<mode_t>(mode));
    expect_part(refused(path()), "others can write it; chmod go-w");
  }
  EXPECT_FALSE(settings().enabled);
}

TEST_F(Trusted, AFileInAFolderThatOthersCanWriteIsNotUnlessTheyCannotReplaceIt) {
  ::chmod((folder_ / "packs").c_str(), 0777);
  expect_part(refused(path()), "can be written by others; chmod go-w");
  ::chmod((folder_ / "packs").c_str(), 01777);
  enable(path());
}

TEST_F(Trusted, AFileOfAnotherUserIsNot) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  ASSERT_EQ(::chown(path().c_str(), 12345, 12345), 0);
  expect_part(refused(path()), "belongs to another user");
  ASSERT_EQ(::chown(path().c_str(), 0, 0), 0);
  ASSERT_EQ(::chown((folder_ / "packs").c_str(), 12345, 12345), 0);
  expect_part(refused(path()), "belongs to another user");
}

TEST_F(Trusted, LinksAreFollowedOnlyWhereNobodyElseCanBendThem) {
  fs::create_symlink(path(), folder_ / "link.json");
  enable(folder_ / "link.json");
  EXPECT_EQ(stats().pins.size(), 1u);
  fs::create_directory(folder_ / "open");
  fs::create_symlink(path(), folder_ / "open/link.json");
  ::chmod((folder_ / "open").c_str(), 0777);
  expect_part(refused(folder_ / "open/link.json"), "can be written by others");
  fs::create_symlink("circle.json", folder_ / "circle.json");
  expect_part(refused(folder_ / "circle.json"), "circle");
  fs::create_symlink("nowhere.json", folder_ / "dangling.json");
  expect_part(refused(folder_ / "dangling.json"), "No such file");
}

TEST_F(Trusted, ALinkOfAnotherUserIsNotFollowed) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give links away";
  fs::create_symlink(path(), folder_ / "link.json");
  ASSERT_EQ(::lchown((folder_ / "link.json").c_str(), 12345, 12345), 0);
  expect_part(refused(folder_ / "link.json"), "belongs to another user");
}

TEST_F(Trusted, WhatIsNoRegularFileIsNot) {
  expect_part(refused(folder_.path()), "not a regular file");
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  expect_part(refused(folder_ / "pipe"), "not a regular file");
  expect_part(refused("/dev/null"), "not a regular file");
  expect_part(refused(folder_ / "absent.json"), "No such file");
  expect_part(refused(std::string("a\0b", 3)), "not a path");
  expect_part(refused(""), "not a path");
}

TEST_F(Trusted, DotsInAPathLeadWhereTheyLead) {
  enable(folder_ / "packs/../packs/./pins.json");
  EXPECT_EQ(stats().pins.size(), 1u);
}

TEST_F(Trusted, TrustAnyoneLoadsWhatOthersCanWrite) {
  ::chmod(path().c_str(), 0666);
  configure({.enabled = true, .path = path(), .trust = Trust::anyone});
  EXPECT_EQ(stats().pins.size(), 1u);
  reset_settings();
  setenv("MLX_KD_TRUST", "anyone", 1);
  enable(path());
  EXPECT_EQ(stats().pins.size(), 1u);
  setenv("MLX_KD_TRUST", "everybody", 1);
  expect_part(refused(path()), "MLX_KD_TRUST is 'everybody': set it to owner or anyone");
  unsetenv("MLX_KD_TRUST");
}

TEST_F(Trusted, DamagedPacksAreRefusedWithTheirName) {
  const std::string whole = tests::text_of(path());
  std::string deep = "{\"schema_version\": \"3\", \"x\": ";
  for (int i = 0; i < 100000; ++i) deep += "[";
  const std::pair<std::string, std::string> cases[] = {
      {whole.substr(0, whole.size() / 2), "cut.json"},
      {"", "cut.json"},
      {"[]", "cut.json"},
      {"{\"schema_version\": \"3\", \"schema_version\": \"3\", \"entries\": []}", "cut.json"},
      {"{\"schema_version\": \"5\", \"entries\": []}", "cut.json"},
      {deep, "cut.json"},
      {std::string("\0\0\0", 3), "cut.json"},
  };
  for (const auto& [text, part] : cases) {
    const std::string file = write("cut.json", text);
    fs::permissions(file, fs::perms(0600));
    expect_part(refused(file), part);
  }
}

TEST_F(Trusted, APackOfAGigabyteIsRefusedWithoutReadingItAll) {
  const std::string file = write("large.json", "");
  fs::permissions(file, fs::perms(0600));
  ASSERT_EQ(::truncate(file.c_str(), off_t(1) << 30), 0);
  expect_part(refused(file), "larger than");
}

TEST_F(Trusted, VariablesThatAreNeitherOnNorOffAreNamed) {
  setenv("MLX_KD_USE_DISCOVERED_KERNELS", "maybe", 1);
  expect_part(refusal<base::Error>([] { reload(); }),
              "MLX_KD_USE_DISCOVERED_KERNELS is 'maybe': set it to 1 or 0");
  unsetenv("MLX_KD_USE_DISCOVERED_KERNELS");
  setenv("MLX_KD_WAIT_FOR_COMPILE", "2", 1);
  expect_part(refusal<base::Error>([] { settings(); }), "MLX_KD_WAIT_FOR_COMPILE is '2'");
  unsetenv("MLX_KD_WAIT_FOR_COMPILE");
}

}  // namespace
}  // namespace mlx_kd::runtime

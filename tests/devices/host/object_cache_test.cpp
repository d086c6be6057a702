#include "mlx_kd/devices/host/object_cache.h"

#include <sys/stat.h>

#include <chrono>
#include <fstream>

#include "mlx_kd/base/error.h"
#include "tests/devices/small_kernels.h"

namespace mlx_kd::devices::cpu {
namespace {

std::string key(char digit) {
  return std::string(64, digit);
}

CachedObject put(const ObjectCache& cache, char digit, size_t bytes) {
  const Scratch scratch(cache.folder());
  std::ofstream(scratch.object(), std::ios::binary) << std::string(bytes, digit);
  return cache.publish(scratch, key(digit), 12.5, {{"op", "test"}});
}

void make_old(const CachedObject& object, int hours) {
  fs::last_write_time(object.path.parent_path() / "record.json",
                      fs::file_time_type::clock::now() - std::chrono::hours(hours));
}

std::string refusal(const fs::path& root) {
  try {
    ObjectCache(root, 1 << 20);
    return "";
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    return error.what();
  }
}

using ObjectCacheTest = WithCache;

TEST_F(ObjectCacheTest, MakesAPrivateFolder) {
  const fs::path root = folder() / "new" / "place";
  const ObjectCache cache(root, 1 << 20);
  struct stat info {};
  ASSERT_EQ(::lstat(cache.folder().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(ObjectCacheTest, RefusesAFolderThatOthersCanWrite) {
  ::chmod(folder().c_str(), 0777);
  EXPECT_NE(refusal(folder()).find("can be written by others"), std::string::npos);
  ::chmod(folder().c_str(), 0755);
  EXPECT_EQ(refusal(folder()), "");
}

TEST_F(ObjectCacheTest, RefusesObjectsThatOthersCanReach) {
  { const ObjectCache cache(folder(), 1 << 20); }
  ::chmod((folder() / "cpu").c_str(), 0755);
  EXPECT_NE(refusal(folder()).find("chmod 700"), std::string::npos);
}

TEST_F(ObjectCacheTest, RefusesALinkInPlaceOfItsFolder) {
  fs::create_directory(folder() / "elsewhere");
  fs::create_directory_symlink(folder() / "elsewhere", folder() / "cpu");
  EXPECT_NE(refusal(folder()).find("is no folder"), std::string::npos);
}

TEST_F(ObjectCacheTest, RefusesAFileInPlaceOfItsFolder) {
  std::ofstream(folder() / "file") << "x";
  EXPECT_NE(refusal(folder() / "file"), "");
  EXPECT_NE(refusal(folder() / "file" / "below"), "");
}

TEST_F(ObjectCacheTest, FindsWhatWasPublished) {
  const ObjectCache cache(folder(), 1 << 20);
  EXPECT_FALSE(cache.find(key('a')));
  const CachedObject put_there = put(cache, 'a', 100);
  const auto found = cache.find(key('a'));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->path, put_there.path);
  EXPECT_DOUBLE_EQ(found->compile_ms, 12.5);
  EXPECT_TRUE(cache.holds(found->path));
}

TEST_F(ObjectCacheTest, TheFirstOfTwoEqualKeysStays) {
  const ObjectCache cache(folder(), 1 << 20);
  const CachedObject first = put(cache, 'a', 100);
  put(cache, 'a', 200);
  EXPECT_EQ(fs::file_size(first.path), 100u);
  EXPECT_EQ(cache.usage().entries, 1);
}

TEST_F(ObjectCacheTest, LeavesNoScratchBehind) {
  const ObjectCache cache(folder(), 1 << 20);
  put(cache, 'a', 100);
  put(cache, 'a', 100);
  { const Scratch unused(cache.folder()); }
  for (const auto& item : fs::directory_iterator(cache.folder()))
    EXPECT_EQ(item.path().filename().string(), key('a'));
}

TEST_F(ObjectCacheTest, HoldsNothingThatWasChangedLinkedOrLiesElsewhere) {
  const ObjectCache cache(folder(), 1 << 20);
  const CachedObject a = put(cache, 'a', 100), b = put(cache, 'b', 100), c = put(cache, 'c', 100);
  std::ofstream(a.path, std::ios::binary | std::ios::app) << "x";
  EXPECT_FALSE(cache.holds(a.path));
  fs::rename(b.path, folder() / "moved.so");
  fs::create_symlink(folder() / "moved.so", b.path);
  EXPECT_FALSE(cache.holds(b.path));
  EXPECT_FALSE(cache.holds(folder() / "moved.so"));
  ::chmod(c.path.c_str(), 0777);
  EXPECT_FALSE(cache.holds(c.path));
}

TEST_F(ObjectCacheTest, ARecordThatIsGarbageRemovesTheEntry) {
  const ObjectCache cache(folder(), 1 << 20);
  const CachedObject a = put(cache, 'a', 100);
  std::ofstream(a.path.parent_path() / "record.json") << "{not json";
  EXPECT_FALSE(cache.find(key('a')));
  EXPECT_EQ(cache.usage().entries, 0);
}

TEST_F(ObjectCacheTest, TrimsTheLeastRecentlyUsedFirst) {
  const ObjectCache cache(folder(), 2500);
  make_old(put(cache, 'a', 1000), 3);
  make_old(put(cache, 'b', 1000), 2);
  make_old(put(cache, 'c', 1000), 1);
  ASSERT_TRUE(cache.find(key('a')));  // used just now
  cache.trim();
  EXPECT_TRUE(cache.find(key('a')));
  EXPECT_FALSE(cache.find(key('b')));
  EXPECT_TRUE(cache.find(key('c')));
}

TEST_F(ObjectCacheTest, NeverTrimsWhatWasJustUsed) {
  const ObjectCache cache(folder(), 1);
  put(cache, 'a', 1000);
  cache.trim();
  EXPECT_TRUE(cache.find(key('a')));
}

TEST_F(ObjectCacheTest, ClearRemovesEntriesAndOldScratchAndNothingElse) {
  const ObjectCache cache(folder(), 1 << 20);
  put(cache, 'a', 100);
  put(cache, 'b', 100);
  fs::create_directory(cache.folder() / "tmp.old");
  fs::last_write_time(cache.folder() / "tmp.old",
                      fs::file_time_type::clock::now() - std::chrono::hours(5));
  std::ofstream(cache.folder() / "a note") << "mine";
  EXPECT_EQ(cache.clear().entries, 2);
  EXPECT_EQ(cache.usage().bytes, 0);
  EXPECT_FALSE(fs::exists(cache.folder() / "tmp.old"));
  EXPECT_TRUE(fs::exists(cache.folder() / "a note"));
}

TEST_F(ObjectCacheTest, TheBoundMustBeANumber) {
  const Variable bound("MLX_KD_CACHE_MAX_MB", "much");
  EXPECT_THROW(ObjectCache::from_environment(), base::Error);
}

TEST(ObjectCachePlace, FollowsXdgThenHome) {
  const tests::TempDir folder;
  const fs::path home = folder.path();
  const Variable own("MLX_KD_CACHE_DIR", ""), set_home("HOME", home);
  const Variable xdg("XDG_CACHE_HOME", (home / "xdg").string());
  EXPECT_EQ(ObjectCache::from_environment().folder(), home / "xdg/mlx-kd/cpu");
  const Variable no_xdg("XDG_CACHE_HOME", "");
  EXPECT_EQ(ObjectCache::from_environment().folder(), home / ".cache/mlx-kd/cpu");
  const Variable no_home("HOME", "");
  EXPECT_THROW(ObjectCache::from_environment(), base::Error);
}

}  // namespace
}  // namespace mlx_kd::devices::cpu

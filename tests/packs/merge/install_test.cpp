#include "mlx_kd/packs/merge/install.h"

#include <sys/wait.h>

#include <algorithm>

#include "tests/packs/fixtures.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

std::vector<std::string> kinds(const InstallResult& result) {
  std::vector<std::string> names;
  for (const Change& change : result.changes) names.push_back(name_of(change.kind));
  return names;
}

TEST(Install, MakesTheFileAndAddsEveryWinner) {
  Folder folder;
  const fs::path run = run_with(folder, "run", pack_of({entry_of(2, 4, 7), entry_of(1, 4, 7)}));
  const InstallResult result = install(run, folder / "pins.json");
  EXPECT_EQ(kinds(result), (std::vector<std::string>{"added", "added"}));
  EXPECT_EQ(text_of(folder / "pins.json"), text_of(fs::path(run) / "best_kernels.json"));
}

TEST(Install, TwiceIsAsGoodAsOnce) {
  Folder folder;
  const fs::path run = run_with(folder, "run", pack_of({entry_of(1, 4, 7), entry_of(2, 4, 7)}));
  install(run, folder / "pins.json");
  const std::string once = text_of(folder / "pins.json");
  const InstallResult again = install(run, folder / "pins.json");
  EXPECT_EQ(kinds(again), (std::vector<std::string>{"kept", "kept"}));
  EXPECT_EQ(again.changes[0].why, "the same entry");
  EXPECT_EQ(text_of(folder / "pins.json"), once);
}

TEST(Install, TheBetterEntryStays) {
  Folder folder;
  write_pack(folder / "pins.json", pack_of({entry_of(1, 4, 7, "a"), entry_of(2, 4, 7, "a")}));
  const fs::path run =
      run_with(folder, "run", pack_of({entry_of(1, 5, 6, "b"), entry_of(2, 3, 9, "b")}));
  const InstallResult result = install(run, folder / "pins.json");
  EXPECT_EQ(kinds(result), (std::vector<std::string>{"kept", "replaced"}));
  EXPECT_EQ(result.changes[0].why, "slower than a: 5 us, not 4 us");
  EXPECT_EQ(result.changes[1].why, "the file's was slower than b: 4 us, not 3 us");
  const Pack pack = read_pack(folder / "pins.json");
  EXPECT_EQ(pack.entries[0].candidate_id, "a");
  EXPECT_EQ(pack.entries[1].candidate_id, "b");
}

TEST(Install, AUsersKernelThatHasChangedTakesThePlaceOfAFasterOne) {
  const auto tuned = [](double us, const std::string& text, const std::string& path) {
    Entry entry = entry_of(1, us, us);
    entry.other["kernel"] = {{"source", text},
                             {"sizes", {"rows=" + path}},
                             {"reference", {{"text", "r"}, {"path", path}, {"has_graph", true}}}};
    return entry;
  };
  const Folder folder;
  install(run_with(folder, "first", pack_of({tuned(1, "a", "1")})), folder / "pins.json");
  const auto slower = run_with(folder, "second", pack_of({tuned(2, "a", "2")}));
  EXPECT_EQ(install(slower, folder / "pins.json").changes[0].kind, Change::Kind::kept);
  const auto other = run_with(folder, "third", pack_of({tuned(3, "b", "1")}));
  const InstallResult result = install(other, folder / "pins.json");
  EXPECT_EQ(result.changes[0].kind, Change::Kind::replaced);
  EXPECT_EQ(result.changes[0].why, "the file's was of another kernel of that name");
  const Pack pack = read_pack(folder / "pins.json");
  ASSERT_EQ(pack.entries.size(), 1u);
  EXPECT_EQ(pack.entries[0].metrics.kernel_us, 3);
}

TEST(Install, KeepsForeignEntriesAndUnknownKeys) {
  Folder folder;
  fs::copy_file(golden("schema2.json"), folder / "pins.json");
  const fs::path run = run_with(folder, "run", pack_of({entry_of(1, 4, 7)}));
  EXPECT_EQ(install(run, folder / "pins.json").foreign, 2u);
  const Json file = Json::parse(text_of(folder / "pins.json"));
  EXPECT_EQ(file.at("tool"), "first version");
  EXPECT_EQ(file.at("runtime").at("os"), "macOS 15.2");
  EXPECT_EQ(file.at("runtime").at("device_name"), "mixed");
  ASSERT_EQ(file.at("entries").size(), 3u);
  EXPECT_EQ(file.at("entries")[0].at("notes"), Json::array({"kept"}));
}

TEST(Install, RefusesAndWritesNothing) {
  Folder folder;
  const fs::path empty = run_with(folder, "empty", pack_of({}));
  expect_misuse([&] { install(empty, folder / "pins.json"); }, {"holds no winners"});
  Entry entry = entry_of(1, 4, 7);
  entry.protocol = "null";
  const fs::path null = run_with(folder, "null", pack_of({entry}));
  expect_misuse([&] { install(null, folder / "pins.json"); }, {"null device"});
  const fs::path run = run_with(folder, "run", pack_of({entry_of(1, 4, 7)}));
  expect_misuse([&] { install(run, run / "best_kernels.json/pins.json"); }, {"is not a folder"});
  expect_misuse([&] { install(run, folder / "empty"); }, {"is not a file"});
  expect_misuse([&] { install(folder / "nowhere", folder / "pins.json"); }, {"nowhere"});
  EXPECT_EQ(folder.count(), 3u);  // the runs alone: no pack, no lock
}

TEST(Install, RefusesAnOutputThatIsNoPackAndLeavesIt) {
  Folder folder;
  const fs::path run = run_with(folder, "run", pack_of({entry_of(1, 4, 7)}));
  for (const std::string text :
       {"", "notes\n", "{}", "{\"schema_version\":\"9\",\"entries\":[]}"}) {
    write(folder / "pins.json", text);
    expect_misuse([&] { install(run, folder / "pins.json"); }, {"pins.json"});
    EXPECT_EQ(text_of(folder / "pins.json"), text);
  }
  EXPECT_FALSE(fs::exists(folder / "pins.json.lock"));
}

TEST(Install, OfAnotherProtocolNeedsToBeTold) {
  Folder folder;
  Entry old = entry_of(1, 4, 7, "old");
  old.protocol = "v1";
  write_pack(folder / "pins.json", pack_of({old}));
  const fs::path run = run_with(folder, "run", pack_of({entry_of(1, 5, 8, "new")}));
  expect_misuse([&] { install(run, folder / "pins.json"); }, {"--prefer-protocol"});
  const InstallResult result = install(run, folder / "pins.json", {entry_of(1, 1, 1).protocol});
  EXPECT_EQ(kinds(result), (std::vector<std::string>{"replaced"}));
  EXPECT_EQ(read_pack(folder / "pins.json").entries[0].candidate_id, "new");
}

TEST(Install, WritesThroughALink) {
  Folder folder;
  write_pack(folder / "real.json", pack_of({}));
  fs::create_symlink(folder / "real.json", folder / "link.json");
  install(run_with(folder, "run", pack_of({entry_of(1, 4, 7)})), folder / "link.json");
  EXPECT_TRUE(fs::is_symlink(folder / "link.json"));
  EXPECT_EQ(read_pack(folder / "real.json").entries.size(), 1u);
}

// Installs `count` runs of one entry each, from a process of its own.
pid_t install_many(const Folder& folder, const std::string& prefix, int count) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  try {
    for (int i = 0; i < count; ++i)
      install(folder / (prefix + std::to_string(i)), folder / "pins.json");
    ::_exit(0);
  } catch (const std::exception&) {
    ::_exit(1);
  }
}

TEST(Install, ProcessesThatInstallAtOnceLoseNothing) {
  Folder folder;
  constexpr int kRuns = 20;
  for (int i = 0; i < kRuns; ++i) {
    run_with(folder, "a" + std::to_string(i), pack_of({entry_of(i + 1, 4, 7)}));
    run_with(folder, "b" + std::to_string(i), pack_of({entry_of(i + 1001, 4, 7)}));
  }
  for (const pid_t pid : {install_many(folder, "a", kRuns), install_many(folder, "b", kRuns)}) {
    int status = -1;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(read_pack(folder / "pins.json").entries.size(), 2u * kRuns);
}

}  // namespace
}  // namespace mlx_kd::packs

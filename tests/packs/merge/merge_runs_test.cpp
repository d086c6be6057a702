#include "mlx_kd/packs/merge/merge_runs.h"

#include "tests/packs/fixtures.h"

namespace mlx_kd::packs {
namespace {

Entry on(Entry entry, const std::string& device) {
  entry.key.device_name = device;
  return entry;
}

void pack_runs(const std::vector<std::string>& runs, const fs::path& out) {
  write_merged(merge_runs(runs).pack, out);
}

TEST(MergeRuns, TakesRunsAndFilesInAnyOrder) {
  Folder folder;
  const std::string a = run_with(folder, "a", pack_of({entry_of(1, 4, 7, "a")}));
  const std::string b = run_with(folder, "b", pack_of({entry_of(1, 3, 9, "b")}));
  const MergeResult result = merge_runs({a, b + "/best_kernels.json"});
  write_merged(result.pack, folder / "1.json");
  pack_runs({b, a, golden("schema2.json")}, folder / "2.json");
  pack_runs({golden("schema2.json"), a, b}, folder / "3.json");
  ASSERT_EQ(result.dropped.size(), 1u);
  EXPECT_EQ(result.dropped[0].origin, a);
  EXPECT_EQ(read_pack(folder / "1.json").entries[0].candidate_id, "b");
  EXPECT_EQ(read_pack(folder / "2.json").entries.size(), 3u);
  EXPECT_EQ(text_of(folder / "2.json"), text_of(folder / "3.json"));
}

TEST(MergeRuns, OfSeveralThatCannotBeReadNamesTheFirst) {
  Folder folder;
  std::vector<std::string> runs;
  for (int i = 0; i < 40; ++i)
    runs.push_back(
        run_with(folder, "run" + std::to_string(i),
                 pack_of(i % 10 == 7 ? std::vector<Entry>() : std::vector{entry_of(1, 4, 7)})));
  for (int i = 0; i < 20; ++i) expect_misuse([&] { merge_runs(runs); }, {"run7 holds no winners"});
}

TEST(MergeRuns, DoesNotWriteOverWhatIsNoPack) {
  Folder folder;
  const Pack pack = pack_of({entry_of(1, 4, 7)});
  write(folder / "thesis.json", "{\"chapter\": 1}");
  for (const SplitBy split : {SplitBy(), SplitBy{true, false}})
    expect_misuse([&] { check_merge_output(folder / "thesis.json", split); },
                  {"thesis.json is not a"});
  expect_misuse([&] { write_merged(pack, folder / "thesis.json"); }, {"thesis.json is not a pack"});
  EXPECT_EQ(text_of(folder / "thesis.json"), "{\"chapter\": 1}");
}

TEST(SplitBy, IsDevicesOrOperatorsOrBoth) {
  EXPECT_TRUE(SplitBy::parse("device").device && !SplitBy::parse("device").op);
  EXPECT_TRUE(SplitBy::parse("op").op && !SplitBy::parse("op").device);
  EXPECT_TRUE(SplitBy::parse("op,device").op && SplitBy::parse("op,device").device);
  for (const char* bad : {"", "shape", "device,", "device op", "Device"})
    expect_misuse([&] { SplitBy::parse(bad); }, {"device, op or device,op"});
}

TEST(SplitBy, WritesAPackForEach) {
  Folder folder;
  Entry other_op = on(entry_of(3, 4, 7), "Grace (TM)");
  other_op.key.op_name = "soft_cap";
  const Pack merged = pack_of({entry_of(1, 4, 7), on(entry_of(1, 4, 7), "Grace (TM)"), other_op});
  const fs::path out = folder / "packs";
  EXPECT_EQ(write_merged(merged, out, SplitBy::parse("device,op")),
            (std::vector<fs::path>{out / "grace-tm-x86-64-rmsnorm.json",
                                   out / "grace-tm-x86-64-soft-cap.json",
                                   out / "some-cpu-x86-64-rmsnorm.json"}));
  EXPECT_EQ(write_merged(merged, out, SplitBy::parse("device")),
            (std::vector<fs::path>{out / "grace-tm-x86-64.json", out / "some-cpu-x86-64.json"}));
  EXPECT_EQ(write_merged(merged, out, SplitBy::parse("op")).size(), 2u);
  EXPECT_EQ(read_pack(out / "grace-tm-x86-64.json").entries.size(), 2u);
  EXPECT_EQ(read_pack(out / "rmsnorm.json").runtime, merged.runtime);
  write(folder / "packs" / "soft-cap.json", "[]");
  expect_misuse(
      [&] {
        write_merged(pack_of({entry_of(9, 1, 1), other_op}), out, SplitBy::parse("op"));
      },
      {"soft-cap.json is not a pack"});
  EXPECT_EQ(read_pack(out / "rmsnorm.json").entries.size(), 2u);  // nothing was written
}

TEST(Disagreements, AreIntervalsOfOneKernelThatDoNotMeet) {
  const std::vector<Origin> origins = {
      {"a", pack_of({with_speedup(entry_of(1, 4, 7, "k"), 1.1, 1.3)})},
      {"b", pack_of({with_speedup(entry_of(1, 5, 8, "k"), 1.2, 1.5)})},
      {"c", pack_of({with_speedup(entry_of(1, 6, 9, "k"), 1.8, 2.0)})},
      {"d", pack_of({with_speedup(entry_of(1, 3, 6, "other"), 3.0, 3.1)})},
      {"e", pack_of({entry_of(1, 7, 9, "k")})}};
  const MergeResult result = merge(origins);
  ASSERT_EQ(result.disagreements.size(), 1u);
  const Disagreement& one = result.disagreements[0];
  EXPECT_EQ(result.pack.entries[one.winner].candidate_id, "other");
  EXPECT_EQ(one.candidate_id, "k");
  EXPECT_EQ(one.low.origin, "a");
  EXPECT_EQ(one.high.origin, "c");
  EXPECT_EQ(one.high.lo, 1.8);
  EXPECT_TRUE(merge({origins[0], origins[1], origins[3], origins[4]}).disagreements.empty());
}

TEST(Disagreements, TheContestedKernelsAreThoseOfThePinOnce) {
  Folder folder;
  const Entry elsewhere = with_speedup(entry_of(2, 4, 7, "k"), 1.1, 1.2);
  const std::vector<std::string> runs = {
      run_with(folder, "a", pack_of({with_speedup(entry_of(1, 4, 7, "k"), 1.1, 1.3), elsewhere})),
      run_with(folder, "b", pack_of({with_speedup(entry_of(1, 4, 7, "k"), 1.8, 1.9)})),
      run_with(folder, "c", pack_of({entry_of(1, 3, 7, "other")}))};
  const Pack pack = contested(runs, merge_runs(runs));
  ASSERT_EQ(pack.entries.size(), 2u);
  EXPECT_EQ(pack.entries[0].candidate_id, "k");
  EXPECT_EQ(pack.entries[1].candidate_id, "other");
  EXPECT_EQ(pack.entries[1].source, entry_of(1, 3, 7).source);
  EXPECT_TRUE(contested(runs, merge_runs({runs[0], runs[2]})).entries.empty());
}

}  // namespace
}  // namespace mlx_kd::packs

#include "mlx_kd/packs/merge/merge.h"

#include <algorithm>
#include <numeric>

#include "tests/packs/fixtures.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

constexpr double kNone = spec::kUnmeasured;

Json dropped_json(const MergeResult& result) {
  Json list = Json::array();
  for (const Dropped& drop : result.dropped)
    list.push_back({drop.candidate_id, drop.origin, drop.why});
  return list;
}

MergeResult merge_entries(const std::vector<Entry>& entries, const MergeOptions& options = {}) {
  std::vector<Origin> origins;
  for (const Entry& entry : entries)
    origins.push_back({"run" + std::to_string(origins.size()), pack_of({entry})});
  return merge(origins, options);
}

Entry of_protocol(Entry entry, const std::string& protocol) {
  entry.protocol = protocol;
  return entry;
}

TEST(Merge, KeepsOneEntryAKeyAndTarget) {
  Entry other_target = entry_of(1, 9, 9, "rmsnorm_c");
  other_target.target = {{"isa", {"avx512f"}}, {"cores", 2}};
  const MergeResult result =
      merge_entries({entry_of(1, 5, 6, "rmsnorm_b"), entry_of(1, 4, 7, "rmsnorm_a"), other_target});
  ASSERT_EQ(result.pack.entries.size(), 2u);
  EXPECT_EQ(dropped_json(result),
            Json::parse(R"([["rmsnorm_b", "run0", "slower than rmsnorm_a: 5 us, not 4 us"]])"));
}

TEST(Merge, RanksByKernelThenLatencyThenId) {
  EXPECT_EQ(
      merge_entries({entry_of(1, 4, 7, "a"), entry_of(1, 5, 6, "b")}).pack.entries[0].candidate_id,
      "a");
  EXPECT_EQ(merge_entries({entry_of(1, kNone, 7, "a"), entry_of(1, 5, 6, "b")})
                .pack.entries[0]
                .candidate_id,
            "b");
  EXPECT_EQ(
      merge_entries({entry_of(1, 4, 7, "a"), entry_of(1, 4, 6, "b")}).pack.entries[0].candidate_id,
      "b");
  const MergeResult tie = merge_entries({entry_of(1, 4, 7, "b"), entry_of(1, 4, 7, "a")});
  EXPECT_EQ(tie.pack.entries[0].candidate_id, "a");
  EXPECT_EQ(tie.dropped[0].why, "as fast as a, which comes first");
}

// Times are comparable whatever was proved, and each entry goes on saying what was.
TEST(Merge, EntriesOfOlderProofsAreRankedAsTheOthers) {
  Entry older = entry_of(1, 4, 7, "a"), newer = entry_of(1, 5, 6, "b");
  older.proof = {{"version", 1}};
  newer.proof = {{"version", 2}};
  EXPECT_EQ(merge_entries({older, newer}).pack.entries[0].proof, older.proof);
  newer.metrics.kernel_us = 3;
  EXPECT_EQ(merge_entries({older, newer}).pack.entries[0].proof, newer.proof);
  const Pack both = pack_of({entry_of(2, 4, 7, "c"), older});
  EXPECT_EQ(parse_pack(write_text(both), "x").entries[0].proof, older.proof);
}

TEST(Merge, SaysWhichRangeOfRowsIsLostWithAnEntry) {
  Entry ranged = entry_of(1, 5, 6, "b");
  ranged.rows_range = DimRange{1, 512, {1, 512}};
  const MergeResult lost = merge_entries({entry_of(1, 4, 7, "a"), ranged});
  EXPECT_EQ(lost.dropped[0].why,
            "slower than a: 5 us, not 4 us; with it goes its range, 1 to 512 rows");
  Entry better = ranged;
  better.metrics.kernel_us = 3;
  better.candidate_id = "c";
  EXPECT_EQ(merge_entries({better, ranged}).dropped[0].why, "slower than c: 5 us, not 3 us");
}

TEST(Merge, SaysWhenAnEntryIsThereTwiceOrHasNoTime) {
  EXPECT_EQ(merge_entries({entry_of(1, 4, 7), entry_of(1, 4, 7)}).dropped[0].why, "the same entry");
  EXPECT_EQ(merge_entries({entry_of(1, kNone, kNone, "a"), entry_of(1, 4, 7, "b")}).dropped[0].why,
            "no time, where b has one");
}

// Among them a ring: a before c by kernel_us, c before b and b before a by latency_us.
TEST(Merge, DoesNotDependOnTheOrderOfArguments) {
  Entry noted = entry_of(1, 4, 7, "d");
  noted.other = {{"note", "differs in what is not known"}};
  const std::vector<Entry> entries = {entry_of(1, 4, 9, "a"), entry_of(1, kNone, 8, "b"),
                                      entry_of(1, 5, 7, "c"), noted, entry_of(1, 4, 7, "d")};
  std::vector<Origin> origins;
  for (const Entry& entry : entries) {
    Pack pack = pack_of({entry, entry_of(static_cast<int64_t>(origins.size()) + 2, 1, 1)});
    pack.runtime["host"] = "host" + std::to_string(origins.size());
    origins.push_back({"run" + std::to_string(origins.size()), pack});
  }
  const MergeResult first = merge(origins);
  std::vector<size_t> order(origins.size());
  std::iota(order.begin(), order.end(), size_t(0));
  do {
    std::vector<Origin> permuted;
    for (size_t index : order) permuted.push_back(origins[index]);
    const MergeResult result = merge(permuted);
    ASSERT_EQ(write_text(result.pack), write_text(first.pack));
    ASSERT_EQ(dropped_json(result), dropped_json(first));
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_EQ(first.dropped.size(), 4u);
  EXPECT_EQ(first.pack.entries[0].candidate_id, "c");
}

TEST(Merge, DoesNotCompareProtocolsUnlessToldWhichCounts) {
  const std::vector<Entry> entries = {of_protocol(entry_of(1, 4, 7, "new"), "abc"),
                                      of_protocol(entry_of(1, kNone, 3, "old"), "v1")};
  expect_misuse([&] { merge_entries(entries); },
                {"run0, run1", "'abc' or 'v1'", "--prefer-protocol"});
  expect_misuse([&] { merge_entries(entries, {"xyz"}); }, {"'abc' or 'v1'"});
  const MergeResult result = merge_entries(entries, {"abc"});
  EXPECT_EQ(result.pack.entries[0].candidate_id, "new");
  EXPECT_EQ(result.dropped[0].why, "its times are of protocol 'v1', not 'abc'");
}

// The hash that files of schema 3 state is a name of the same protocol.
TEST(Merge, ComparesTimesOfVersion2HoweverTheFileNamesIt) {
  Pack old = read_pack(golden("schema3.json"));
  Entry now = old.entries[0];
  now.protocol = "2";
  now.metrics.kernel_us = 0.125;
  now.candidate_id = "new";
  const MergeResult result = merge({{"old", old}, {"now", pack_of({now})}});
  ASSERT_EQ(result.pack.entries.size(), 4u);
  EXPECT_EQ(result.pack.entries[0].candidate_id, "new");
  EXPECT_EQ(result.dropped[0].why, "slower than new: 0.25 us, not 0.125 us");
}

TEST(Merge, NoOtherProtocolIsVersion2) {
  for (const char* other : {"v1", "2+9f31c2aa", "2-device-clock", "0123456789abcdef", "1"})
    expect_misuse(
        [&] {
          merge_entries({of_protocol(entry_of(1, 4, 7, "a"), "2"),
                         of_protocol(entry_of(1, 5, 8, "b"), other)});
        },
        {"--prefer-protocol", std::string("'") + other + "'", "'2'"});
}

TEST(Merge, APreferredProtocolMayBeNamedAsAnOlderFileDoes) {
  const std::vector<Entry> entries = {of_protocol(entry_of(1, 4, 7, "new"), "2"),
                                      of_protocol(entry_of(1, 1, 3, "old"), "v1")};
  const MergeResult result = merge_entries(entries, {"28850ad635fe7233"});
  EXPECT_EQ(result.pack.entries[0].candidate_id, "new");
  EXPECT_EQ(result.dropped[0].why, "its times are of protocol 'v1', not '2'");
}

// Files of all schemas at once: every pin is kept once, in any order of the files.
TEST(Merge, TakesFilesOfAllSchemas) {
  const Pack third = read_pack(golden("schema3.json"));
  Entry better = third.entries[1];
  better.metrics.kernel_us = 0.125;
  std::vector<Origin> origins = {{"one", read_pack(golden("schema1.json"))},
                                 {"two", read_pack(golden("schema2.json"))},
                                 {"three", third},
                                 {"four", parse_pack(write_text(pack_of({better})), "x")}};
  const MergeResult first = merge(origins);
  EXPECT_EQ(first.pack.entries.size(), 5u + 2u + 4u);
  ASSERT_EQ(first.dropped.size(), 1u);
  EXPECT_EQ(first.dropped[0].origin, "three");
  const std::string text = write_text(first.pack);
  std::sort(origins.begin(), origins.end(),
            [](const Origin& a, const Origin& b) { return a.name < b.name; });
  do {
    ASSERT_EQ(write_text(merge(origins).pack), text);
  } while (std::next_permutation(origins.begin(), origins.end(),
                                 [](const Origin& a, const Origin& b) { return a.name < b.name; }));
  EXPECT_EQ(write_text(parse_pack(text, "x")), text);
}

TEST(Merge, ProtocolsOfDifferentPinsMayDiffer) {
  EXPECT_EQ(
      merge_entries({of_protocol(entry_of(1, 4, 7), "abc"), of_protocol(entry_of(2, 4, 7), "v1")})
          .pack.entries.size(),
      2u);
}

TEST(Merge, RefusesTimesOfTheNullDevice) {
  expect_misuse([] { merge_entries({of_protocol(entry_of(1, 4, 7), "null")}); },
                {"run0", "null device"});
  Entry entry = entry_of(1, 4, 7);
  entry.key.device_arch = "null";
  expect_misuse([&] { merge_entries({entry}); }, {"null device"});
}

TEST(Merge, KeepsOfTheHeadersWhatAllAgreeOn) {
  Pack a = pack_of({entry_of(1, 4, 7)}), b = pack_of({entry_of(2, 4, 7)});
  a.runtime["os"] = b.runtime["os"] = "Linux";
  a.runtime["device_name"] = "Other CPU";
  a.runtime["host"] = "a";
  a.other = {{"team", 1}, {"x", 1}};
  b.other = {{"team", 1}};
  const Pack merged = merge({{"a", a}, {"b", b}}).pack;
  EXPECT_EQ(merged.runtime, Json({{"mlx_version", "0.32.4"},
                                  {"device_arch", "x86_64"},
                                  {"device_name", "mixed"},
                                  {"os", "Linux"}}));
  EXPECT_EQ(merged.other, Json({{"team", 1}}));
}

TEST(Merge, SameShapeInAnotherOrderIsTheSamePin) {
  Entry entry = entry_of(1, 5, 7, "b");
  entry.key.shape_signature = {{"D", 2048}, {"rows", 1}};
  EXPECT_EQ(merge_entries({entry_of(1, 4, 7, "a"), entry}).pack.entries.size(), 1u);
}

}  // namespace
}  // namespace mlx_kd::packs

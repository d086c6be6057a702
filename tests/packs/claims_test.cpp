// What an entry may say of its kernel since schema 4: its contract, ranges of sizes, what is
// claimed, and whether it is approximate.
#include "mlx_kd/packs/merge/merge.h"
#include "tests/packs/fixtures.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

Entry read_again(const Entry& entry) {
  return parse_pack(write_text(pack_of({entry})), "x").entries.at(0);
}

Entry attention() {
  Entry entry = entry_of(1, 2, 3);
  entry.key.shape_signature = {{"B", 1}, {"S", 512}};
  entry.ranges = {{"B", {1, 4, {1, 4}}}, {"S", {128, 4096, {128, 512, 4096}}}};
  return entry;
}

TEST(Claims, AreLeftOutWhereTheyAreUsual) {
  const Json json = to_json(entry_of(1, 2, 3));
  for (const char* name : {"contract", "ranges", "sampled", "claim_kind", "approximate"})
    EXPECT_FALSE(json.contains(name)) << name;
}

TEST(Claims, ReadBackAsTheyWereWritten) {
  Entry entry = attention();
  entry.contract = 3;
  entry.claim_kind = ClaimKind::mlx_cannot;
  entry.approximate = true;
  const Json json = to_json(entry);
  EXPECT_EQ(json.at("contract"), 3);
  EXPECT_EQ(json.at("claim_kind"), "mlx_cannot");
  EXPECT_EQ(json.at("approximate"), true);
  EXPECT_EQ(json.at("ranges"), Json({{"B", {1, 4}}, {"S", {128, 4096}}}));
  EXPECT_EQ(json.at("sampled"), Json({{"B", {1, 4}}, {"S", {128, 512, 4096}}}));
  const Entry again = read_again(entry);
  EXPECT_EQ(to_json(again), json);
  EXPECT_EQ(again.contract, 3);
  EXPECT_EQ(again.claim_kind, ClaimKind::mlx_cannot);
  EXPECT_TRUE(again.approximate);
  EXPECT_EQ(again.ranges.at("S").sampled, (std::vector<int64_t>{128, 512, 4096}));
}

// The batch dim has no name of its own in rows_range.
TEST(Claims, ARangeOfRowsIsOneOfTheBatchDim) {
  Entry entry = attention();
  EXPECT_EQ(ranges_of(entry, "B").size(), 2u);
  entry.ranges.erase("B");
  EXPECT_EQ(ranges_of(entry, "B").count("B"), 0u);
  entry.rows_range = DimRange{1, 8, {1, 8}};
  const Entry again = read_again(entry);
  EXPECT_EQ(ranges_of(again, "B").at("B").hi, 8);
  EXPECT_EQ(ranges_of(again, "B").at("S").hi, 4096);
  EXPECT_EQ(ranges_text(again), "128 to 4096 S, 1 to 8 rows");
}

// Each change damages one field of a good entry; the message names the entry and the field.
TEST(Claims, NamesTheDamagedField) {
  const std::vector<std::tuple<const char*, Json, std::string>> damage = {
      {"contract", 0, "'contract' is not a number"},
      {"contract", -1, "'contract'"},
      {"contract", 1.5, "'contract'"},
      {"contract", "2", "'contract'"},
      {"contract", UINT64_MAX, "'contract'"},
      {"claim_kind", "magic", "'magic', which this program does not know"},
      {"claim_kind", 1, "'claim_kind' is not a text"},
      {"approximate", "yes", "'approximate' is neither true nor false"},
      {"ranges", {1, 2}, "'ranges' is not an object"},
      {"ranges", {{"S", {1}}}, "the range of 'S' is not a pair"},
      {"ranges", {{"S", 4}}, "the range of 'S' is not a pair"},
      {"ranges", {{"S", {8, 2}}}, "the range of 'S' ends before it starts"},
      {"ranges", {{"S", {0, 2}}}, "the range of 'S' has a value that is not a size"},
      {"ranges", {{"S", {1, UINT64_MAX}}}, "the range of 'S' has a value that is not a size"},
      {"ranges", {{"Q", {1, 2}}}, "the range of 'Q' is of a dim that its shape_signature"},
      {"ranges", Json::object(), "'sampled' has 'B', which 'ranges' does not have"},
      {"sampled", {{"S", "x"}}, "'S' is not an array"},
      {"sampled", {{"S", {1, "x"}}}, "the range of 'S' has a value that is not a size"},
  };
  const Json good = Json::parse(write_text(pack_of({attention()})));
  for (const auto& [name, value, message] : damage) {
    Json bad = good;
    bad["entries"][0][name] = value;
    SCOPED_TRACE(std::string(name) + " = " + value.dump());
    expect_misuse([&] { parse_pack(bad.dump(), "pins.json"); }, {"pins.json, entry 1: ", message});
  }
}

// Neither can serve the other's calls, so neither takes the other's place.
TEST(Claims, EntriesOfOtherContractsAndApproximateOnesArePinsOfTheirOwn) {
  Entry next = entry_of(1, 1, 2, "rmsnorm_b"), rough = entry_of(1, 1, 2, "rmsnorm_c");
  next.contract = 2;
  rough.approximate = true;
  const Entry first = entry_of(1, 4, 7, "rmsnorm_a");
  const MergeResult result = merge({{"a", pack_of({rough, first})}, {"b", pack_of({next})}});
  ASSERT_EQ(result.pack.entries.size(), 3u);
  EXPECT_TRUE(result.dropped.empty());
  EXPECT_FALSE(same_pin(first, next) || same_pin(first, rough));
  EXPECT_EQ(title(next), title(first) + ", contract 2");
  EXPECT_EQ(title(rough), title(first) + ", approximate");
}

TEST(Claims, MergingSaysWhichRangesAreLostWithAnEntry) {
  Entry ranged = entry_of(512, 5, 6, "b");
  ranged.ranges = {{"rows", {128, 4096, {128, 4096}}}};
  const MergeResult lost =
      merge({{"x", pack_of({entry_of(512, 4, 7, "a")})}, {"y", pack_of({ranged})}});
  EXPECT_EQ(lost.dropped.at(0).why,
            "slower than a: 5 us, not 4 us; with it goes its range, 128 to 4096 rows");
}

}  // namespace
}  // namespace mlx_kd::packs

// The examples of docs/formats.md are what it says they are.
#include "tests/packs/fixtures.h"

namespace mlx_kd::packs {
namespace {

// The JSON examples that hold `mark`, in order.
std::vector<std::string> examples(const std::string& mark) {
  const std::string text = base::read_file(MLX_KD_SOURCE_DIR "/docs/formats.md", "packs");
  const std::string open = "```json\n", close = "```";
  std::vector<std::string> result;
  for (size_t at = text.find(open); at != text.npos; at = text.find(open, at)) {
    at += open.size();
    const std::string example = text.substr(at, text.find(close, at) - at);
    if (example.find(mark) != example.npos) result.push_back(example);
  }
  return result;
}

TEST(FormatsDoc, ItsPackIsWhatIsWritten) {
  ASSERT_EQ(examples("\"entries\"").size(), 1u);
  const std::string example = examples("\"entries\"")[0];
  const Pack pack = parse_pack(example, "docs/formats.md");
  EXPECT_EQ(base::Json::parse(write_text(pack)), base::Json::parse(example));
  EXPECT_EQ(pack.entries[0].candidate_id, candidate_id_of(pack.entries[0]));
  EXPECT_EQ(pack.entries[0].source_hash, source_hash_of(pack.entries[0]));
}

TEST(FormatsDoc, ItsPackOfSchema1IsRead) {
  ASSERT_EQ(examples("\"supported_dtypes\"").size(), 1u);
  EXPECT_EQ(parse_pack(examples("\"supported_dtypes\"")[0], "docs/formats.md").entries.size(), 2u);
}

// The table of an entry's keys names each key that is written.
TEST(FormatsDoc, ItNamesEveryKeyOfAnEntry) {
  const std::string text = base::read_file(MLX_KD_SOURCE_DIR "/docs/formats.md", "packs");
  Entry entry = entry_of(1, 2, 3);
  entry.rows_range = DimRange{1, 2, {1}};
  entry.loose = entry.approximate = true;
  entry.contract = 2;
  entry.claim_kind = ClaimKind::mlx_cannot;
  entry.ranges = {{"D", {1, 2, {1}}}};
  const base::Json whole = to_json(entry), metrics = spec::to_json(entry.metrics);
  for (const base::Json* object : {&whole, &metrics})
    for (const auto& item : object->items())
      EXPECT_NE(text.find("`" + item.key() + "`"), std::string::npos) << item.key();
}

}  // namespace
}  // namespace mlx_kd::packs

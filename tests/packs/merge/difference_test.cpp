#include "mlx_kd/packs/merge/difference.h"

#include "tests/packs/fixtures.h"

namespace mlx_kd::packs {
namespace {

std::vector<std::string> kinds(const Pack& a, const Pack& b) {
  std::vector<std::string> result;
  for (const Difference& one : difference(a, b)) result.push_back(name_of(one.kind));
  return result;
}

using Names = std::vector<std::string>;

TEST(Difference, OfEqualPacksIsEmptyWhateverTheOrder) {
  const Entry a = entry_of(1, 4, 7), b = entry_of(2, 4, 7);
  EXPECT_EQ(kinds(pack_of({a, b}), pack_of({b, a})), Names());
  EXPECT_EQ(kinds(pack_of({}), pack_of({})), Names());
}

TEST(Difference, SaysWhatDiffers) {
  const Entry entry = with_speedup(entry_of(1, 4, 7), 1.1, 1.3);
  const auto against = [&](const Entry& other) {
    return kinds(pack_of({entry}), pack_of({other}));
  };
  EXPECT_EQ(kinds(pack_of({entry}), pack_of({})), Names{"only in A"});
  EXPECT_EQ(kinds(pack_of({}), pack_of({entry})), Names{"only in B"});
  EXPECT_EQ(against(entry_of(2, 4, 7)), (Names{"only in A", "only in B"}));
  EXPECT_EQ(against(entry_of(1, 4, 7, "rmsnorm_b")), Names{"kernel"});
  Entry other = entry;
  other.source += "// changed\n";
  other.source_hash = source_hash_of(other);
  EXPECT_EQ(against(other), Names{"kernel"});
  EXPECT_EQ(against(with_speedup(entry, 1.4, 1.5)), Names{"speed-up"});
  EXPECT_EQ(against(with_speedup(entry, 1.2, 1.5)), Names{"times"});
  other = with_speedup(entry, 1.4, 1.5);
  other.protocol = "v1";  // the intervals are of another way to measure
  EXPECT_EQ(against(other), Names{"times"});
  other = entry;
  other.rows_range = DimRange{1, 8, {1, 8}};
  EXPECT_EQ(against(other), Names{"other"});
}

}  // namespace
}  // namespace mlx_kd::packs

#include "mlx_kd/discover/models/tune_pack.h"

#include <gtest/gtest.h>

namespace mlx_kd::discover {
namespace {

packs::Entry entry(const std::string& id, int64_t m, int64_t lo = 0, int64_t hi = 0,
                   int64_t n = 64) {
  packs::Entry result;
  result.key.op_name = "matvec";
  result.key.dtype = "float16";
  result.key.shape_signature = {{"M", m},        {"N", n},        {"K", 64},
                                {"has_norm", 0}, {"has_bias", 0}, {"has_residual", 0}};
  result.candidate_id = id;
  if (hi > 0) packs::set_ranges(result, {{"M", {lo, hi, {lo, hi}}}}, "M");
  return result;
}

packs::Pack pack(const std::vector<packs::Entry>& entries) {
  packs::Pack result;
  result.entries = entries;
  return result;
}

// "id M" or "id M lo..hi" of each entry.
std::vector<std::string> texts(const packs::Pack& made) {
  std::vector<std::string> result;
  for (const packs::Entry& one : made.entries) {
    std::string text = one.candidate_id + " " + std::to_string(one.key.shape_signature.at("M"));
    if (one.rows_range)
      text += " " + std::to_string(one.rows_range->lo) + ".." + std::to_string(one.rows_range->hi);
    result.push_back(text);
  }
  return result;
}

using Texts = std::vector<std::string>;

TEST(TunePack, DefaultKernelsServeWhatSearchesLeave) {
  const auto made = with_defaults(pack({entry("best", 512)}),
                                  pack({entry("first", 17, 17, 2049), entry("first", 67),
                                        entry("first", 512), entry("first", 2049)}));
  EXPECT_EQ(texts(made), (Texts{"best 512", "first 17 17..2049"}));
}

TEST(TunePack, ARangeWhoseEntryGivesWayIsStatedByAnother) {
  const auto made = with_defaults(
      pack({entry("best", 1)}),
      pack({entry("first", 1, 1, 16), entry("first", 3), entry("first", 12), entry("first", 16)}));
  EXPECT_EQ(texts(made), (Texts{"best 1", "first 3 1..16"}));
}

TEST(TunePack, ASearchThatServesTheWholeRangeReplacesTheDefault) {
  const auto made =
      with_defaults(pack({entry("best", 1, 1, 16)}),
                    pack({entry("first", 1, 1, 16), entry("first", 3), entry("first", 16)}));
  EXPECT_EQ(texts(made), Texts{"best 1 1..16"});
}

TEST(TunePack, OtherSizesAreNotServed) {
  const auto made = with_defaults(pack({entry("best", 1, 1, 16, 128)}),
                                  pack({entry("first", 1, 1, 16), entry("first", 3)}));
  EXPECT_EQ(texts(made), (Texts{"best 1 1..16", "first 1 1..16"}));
}

TEST(TunePack, WithoutSearchesItIsTheDefaults) {
  EXPECT_EQ(texts(with_defaults({}, pack({entry("first", 1), entry("other", 2)}))),
            (Texts{"first 1", "other 2"}));
}

}  // namespace
}  // namespace mlx_kd::discover

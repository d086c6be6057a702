// Damaged packs: whatever is wrong with the text, the answer is a pack or a message.
#include "mlx_kd/base/random.h"
#include "mlx_kd/packs/merge/merge.h"
#include "tests/packs/fixtures.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

// Whether the text is a pack; one that is can be merged and written, and reads back.
bool is_pack(const std::string& text) {
  Pack pack;
  try {
    pack = parse_pack(text, "x");
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2) << error.what();
    return false;
  }
  const std::string written = write_text(pack);
  EXPECT_EQ(write_text(parse_pack(written, "x")), written);
  try {
    merge({{"a", pack}, {"b", pack}});
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2) << error.what();
  }
  return true;
}

std::vector<std::string> good_texts() {
  return {base::read_file(golden("schema1.json"), "packs"),
          base::read_file(golden("schema2.json"), "packs"),
          write_text(pack_of({entry_of(1, 2, 3), entry_of(2, 2, 3)}))};
}

// One byte replaced, removed, doubled, or a stretch of the text moved.
std::string mutated(std::string text, base::Random& rng) {
  const size_t at = rng.below(text.size());
  switch (rng.below(4)) {
    case 0:
      text[at] = static_cast<char>(rng.below(256));
      break;
    case 1:
      text.erase(at, 1 + rng.below(20));
      break;
    case 2:
      text.insert(at, 1, "{}[],:\"0-.e\\n"[rng.below(13)]);
      break;
    default:
      text.insert(at, text.substr(rng.below(text.size()), 1 + rng.below(60)));
  }
  return text;
}

TEST(DamagedPack, BytesThatChangeNeverDoMoreThanAMessage) {
  base::Random rng(7);
  int packs = 0, others = 0;
  for (const std::string& good : good_texts())
    for (int i = 0; i < 600; ++i) ++(is_pack(mutated(good, rng)) ? packs : others);
  EXPECT_GT(packs, 100);  // both ways were taken
  EXPECT_GT(others, 100);
}

// All places of a value, as JSON pointers.
void collect(const Json& value, const Json::json_pointer& here,
             std::vector<Json::json_pointer>& places) {
  places.push_back(here);
  if (value.is_object())
    for (const auto& [name, member] : value.items()) collect(member, here / name, places);
  if (value.is_array())
    for (size_t i = 0; i < value.size(); ++i) collect(value[i], here / i, places);
}

TEST(DamagedPack, ValuesOfAnyTypeAnywhereNeverDoMoreThanAMessage) {
  const std::vector<Json> values = {nullptr, true,           -1,    uint64_t(-1), "",
                                    "4",     Json::object(), {1, 2}};
  for (const std::string& good : good_texts()) {
    const Json root = Json::parse(good);
    std::vector<Json::json_pointer> places;
    collect(root, Json::json_pointer(), places);
    for (const Json::json_pointer& place : places)
      for (const Json& value : values) {
        Json bad = root;
        bad[place] = value;
        SCOPED_TRACE(place.to_string() + " = " + value.dump());
        is_pack(bad.dump());
      }
  }
}

}  // namespace
}  // namespace mlx_kd::packs

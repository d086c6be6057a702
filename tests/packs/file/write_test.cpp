#include <algorithm>

#include "tests/packs/fixtures.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

// Every member of `part` is in `whole` with the same value, at any depth of objects.
bool holds(const Json& whole, const Json& part) {
  if (!part.is_object() || !whole.is_object()) return whole == part;
  return std::all_of(part.items().begin(), part.items().end(), [&](const auto& item) {
    return whole.contains(item.key()) && holds(whole.at(item.key()), item.value());
  });
}

TEST(WriteText, ReadsBackAsItWasWritten) {
  Entry entry = entry_of(4, 2.5, 3.25);
  entry.rows_range = DimRange{1, 64, {1, 4, 64}};
  const std::string text = write_text(pack_of({entry}));
  const Pack again = parse_pack(text, "x");
  EXPECT_EQ(to_json(again.entries[0]), to_json(entry));
  EXPECT_EQ(again.entries[0].rows_range->sampled, (std::vector<int64_t>{1, 4, 64}));
  EXPECT_EQ(write_text(again), text);
}

TEST(WriteText, KeepsUnknownKeysEverywhere) {
  Json root = Json::parse(write_text(pack_of({entry_of(1, 2, 3)})));
  root["team"] = {{"name", "kernels"}};
  root["runtime"]["os"] = "Linux";
  root["entries"][0]["note"] = {1, 2};
  root["entries"][0]["key"]["os_build"] = "24C101";
  root["entries"][0]["metrics"]["watts"] = 3.5;
  root["entries"][0]["metrics"]["p10_us"] = nullptr;
  EXPECT_EQ(Json::parse(write_text(parse_pack(root.dump(), "x"))), root);
}

TEST(WriteText, AnOlderFileLosesNothing) {
  const Json before = Json::parse(base::read_file(golden("schema2.json"), "packs"));
  const Json after = Json::parse(write_text(read_pack(golden("schema2.json"))));
  EXPECT_EQ(after.at("schema_version"), "4");
  EXPECT_EQ(after.at("tool"), before.at("tool"));
  EXPECT_TRUE(holds(after.at("entries")[0], before.at("entries")[1]));  // now in order of keys
  EXPECT_TRUE(holds(after.at("entries")[1], before.at("entries")[0]));
}

TEST(WriteText, OnlyMetalEntriesCarryMetalSource) {
  const Json cpp = to_json(entry_of(1, 2, 3));
  EXPECT_TRUE(cpp.contains("source"));
  EXPECT_FALSE(cpp.contains("metal_source"));
  const Json metal = to_json(read_pack(golden("schema2.json")).entries[0]);
  EXPECT_TRUE(metal.contains("metal_source"));
  EXPECT_FALSE(metal.contains("source"));
}

TEST(WriteText, OrderOfEntriesDoesNotShow) {
  std::vector<Entry> entries = {entry_of(1, 2, 3), entry_of(10, 2, 3), entry_of(2, 2, 3)};
  entries.push_back(entry_of(2, 2, 3, "rmsnorm_b"));
  const std::string text = write_text(pack_of(entries));
  std::reverse(entries.begin(), entries.end());
  EXPECT_EQ(write_text(pack_of(entries)), text);
  const Pack again = parse_pack(text, "x");
  EXPECT_EQ(again.entries[1].key.shape_signature.at("rows"), 2);  // by number, not by digits
  EXPECT_EQ(again.entries[3].key.shape_signature.at("rows"), 10);
}

TEST(WriteText, IsAsciiAndEndsItsLastLine) {
  const std::string text = write_text(read_pack(golden("schema2.json")));
  EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) { return c > 0; }));
  EXPECT_EQ(text.substr(text.size() - 2), "}\n");
}

TEST(MakeEntry, TakesItsKeyFromCandidateSizeAndDevice) {
  spec::Candidate candidate;
  candidate.op_name = "rmsnorm";
  candidate.language = "cpp";
  candidate.dtype = spec::Dtype::bfloat16;
  candidate.source = "code";
  candidate.template_params = {{"VEC", 16}};
  spec::DeviceId device;
  device.arch = "x86_64";
  device.name = "Some CPU";
  device.target = {{"cores", 2}};
  Measured measured{{{"rows", 1}, {"D", 64}}, {}, "abc", {{"eps", 1e-5}}, {{"seeds", 3}}};
  measured.metrics.latency_us = 4;
  const Entry entry = make_entry(candidate, measured, device, "0.32.4");
  EXPECT_EQ(entry.key,
            (spec::PinKey{
                "rmsnorm", "0.32.4", "x86_64", "Some CPU", "bfloat16", {{"rows", 1}, {"D", 64}}}));
  EXPECT_EQ(entry.candidate_id, candidate.id());
  EXPECT_EQ(candidate_id_of(entry), candidate.id());
  EXPECT_EQ(entry.source_hash, candidate.source_hash());
  EXPECT_EQ(to_json(entry).at("runtime_inputs"), Json({{"eps", 1e-5}}));
  EXPECT_EQ(to_json(entry).at("metrics").at("latency_us"), 4.0);
  EXPECT_FALSE(is_null(entry));
}

// Computed with Python's json and hashlib: `source` and `language` in place of `metal_source`.
TEST(MakeEntry, IdOfACppEntryHashesSourceAndLanguage) {
  Entry entry = entry_of(1, 2, 3);
  entry.inputs_spec = Json::parse(
      R"([{"name": "inp", "dtype": "float32", "shape": [1, 2048], "strides": "contiguous"},
          {"name": "weight", "dtype": "float32", "shape": [2048], "strides": "contiguous"}])");
  entry.outputs_spec = Json::parse(
      R"([{"name": "out", "dtype": "float32", "shape": [1, 2048], "strides": "contiguous"}])");
  EXPECT_EQ(candidate_id_of(entry), "rmsnorm_fe965b8ca45bd6a0");
  EXPECT_EQ(source_hash_of(entry),
            "ed8f82830a74a70e0de22435a125373a6ff737721195b516239f7d9c8a52d26c");
}

TEST(WritePack, RefusesAPlaceWhereNoFileCanBe) {
  Folder folder;
  const Pack pack = pack_of({entry_of(1, 2, 3)});
  write_pack(folder / "taken/deep/pins.json", pack);
  EXPECT_TRUE(fs::exists(folder / "taken/deep/pins.json")) << "missing folders are created";
  expect_misuse([&] { write_pack(folder / "taken/deep/pins.json/x.json", pack); },
                {"is not a folder"});
  expect_misuse([&] { write_pack(folder / "taken", pack); }, {"is not a file"});
  expect_misuse([&] { write_pack("/dev/null", pack); }, {"/dev/null is not a file"});
  EXPECT_EQ(folder.count(), 1u);
}

TEST(WritePack, RefusesAFolderThatIsNotWritable) {
  Folder folder;
  fs::create_directory(folder / "taken");
  if (::geteuid() == 0) GTEST_SKIP() << "root may write anywhere";
  fs::permissions(folder / "taken", fs::perms::owner_read | fs::perms::owner_exec);
  expect_misuse([&] { write_pack(folder / "taken/pins.json", pack_of({})); }, {"is not writable"});
}

}  // namespace
}  // namespace mlx_kd::packs

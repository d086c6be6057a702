#include "tests/packs/fixtures.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

// Computed with Python's json and hashlib over the fields that formats.md lists.
constexpr const char* kRmsnormId = "rmsnorm_f5825a8c957dc2d1";
constexpr const char* kRmsnormHash =
    "e65175f8b13378dfd7870c81d11760151550c5443590703f2c21da8345a43aab";
constexpr const char* kSwigluId = "swiglu_4277c2b764b5fe1e";

TEST(ReadPack, ReadsSchema2) {
  const Pack pack = read_pack(golden("schema2.json"));
  EXPECT_EQ(pack.schema, 2);
  EXPECT_EQ(pack.runtime.at("os"), "macOS 15.2");
  ASSERT_EQ(pack.entries.size(), 2u);
  const Entry& entry = pack.entries[1];
  EXPECT_EQ(entry.key.op_name, "rmsnorm");
  EXPECT_EQ(entry.key.shape_signature, (spec::Dims{{"rows", 1}, {"D", 2048}}));
  EXPECT_EQ(entry.language, "metal");
  EXPECT_EQ(entry.protocol, kFirstVersion);
  EXPECT_EQ(entry.knobs.at("eps"), 1e-6);
  EXPECT_EQ(entry.launch_params.at("threadgroup_x"), 256);
  EXPECT_EQ(entry.metrics.latency_us, 7.5);
  EXPECT_FALSE(entry.loose);
}

TEST(ReadPack, IdsAreThoseOfTheFirstVersion) {
  const Pack pack = read_pack(golden("schema2.json"));
  EXPECT_EQ(pack.entries[0].candidate_id, kSwigluId);
  EXPECT_EQ(candidate_id_of(pack.entries[0]), kSwigluId);
  EXPECT_EQ(candidate_id_of(pack.entries[1]), kRmsnormId);
  EXPECT_EQ(source_hash_of(pack.entries[1]), kRmsnormHash);
}

TEST(ReadPack, OpensSchema1OutIntoOneEntryASizeAndType) {
  const Pack pack = read_pack(golden("schema1.json"));
  EXPECT_EQ(pack.schema, 1);
  ASSERT_EQ(pack.entries.size(), 5u);
  const Entry& entry = pack.entries[3];
  EXPECT_EQ(
      entry.key,
      (spec::PinKey{
          "rmsnorm", "unknown", "unknown", "unknown", "bfloat16", {{"rows", 2}, {"D", 2048}}}));
  EXPECT_TRUE(entry.loose);
  EXPECT_EQ(entry.protocol, kFirstVersion);
  EXPECT_EQ(entry.candidate_id, kRmsnormId);
  EXPECT_EQ(entry.other, Json({{"author", "someone"}}));
}

TEST(ReadPack, WhatSchema1LeavesOutIsFilledIn) {
  const Entry entry = read_pack(golden("schema1.json")).entries[4];
  EXPECT_TRUE(entry.key.shape_signature.empty());
  EXPECT_EQ(entry.candidate_id, kSwigluId);  // the file states none
  EXPECT_EQ(entry.source_hash, source_hash_of(entry));
  EXPECT_FALSE(std::isfinite(entry.metrics.latency_us));
}

TEST(ReadPack, ASchema1EntryStaysLooseWhenItIsWrittenAsSchema4) {
  const Pack again = parse_pack(write_text(read_pack(golden("schema1.json"))), "x");
  EXPECT_EQ(again.schema, 4);
  EXPECT_TRUE(again.entries[0].loose);
}

TEST(ReadPack, AnEntryOfSchema2IsNotLooseEvenIfItIsUnknown) {
  Json root = Json::parse(base::read_file(golden("schema2.json"), "packs"));
  root["entries"][0]["key"]["device_name"] = "unknown";
  EXPECT_FALSE(parse_pack(root.dump(), "x").entries[0].loose);
}

TEST(ReadPack, RefusesWhatIsNoPack) {
  expect_misuse([] { read_pack("/nowhere/pins.json"); }, {"[packs]", "/nowhere/pins.json"});
  expect_misuse([] { parse_pack("", "pins.json"); }, {"pins.json is not JSON"});
  expect_misuse([] { parse_pack("[]", "pins.json"); }, {"pins.json is not a pack"});
  expect_misuse([] { parse_pack("{\"a\": 1}", "pins.json"); }, {"pins.json is not a pack"});
  expect_misuse([] { parse_pack("{\"entries\": []}", "pins.json"); }, {"schema_version"});
  expect_misuse([] { parse_pack("{\"entries\": {}, \"schema_version\": \"3\"}", "pins.json"); },
                {"no list of entries"});
  expect_misuse([] { parse_pack("{\"ops\": []}", "pins.json"); }, {"no object 'ops'"});
  expect_misuse([] { parse_pack("{\"entries\": [1], \"schema_version\": 3}", "pins.json"); },
                {"pins.json, entry 1", "not an object"});
}

TEST(ReadPack, RefusesANewerSchemaAndSaysWhatItReads) {
  for (const char* version : {"\"5\"", "5", "\"10\""})
    expect_misuse(
        [&] {
          parse_pack("{\"entries\": [], \"schema_version\": " + std::string(version) + "}", "x");
        },
        {"reads 1 to 4", "newer mlx-kd"});
}

TEST(ReadPack, RefusesTextThatIsCutAnywhere) {
  const std::string text = base::read_file(golden("schema2.json"), "packs");
  for (size_t size = 0; size + 2 < text.size(); size += 7)
    expect_misuse([&] { parse_pack(text.substr(0, size), "x"); }, {"x is not JSON"});
}

TEST(ReadPack, RefusesAKeyThatStandsTwice) {
  expect_misuse([] { parse_pack(R"({"schema_version":"3","entries":[],"entries":[]})", "x"); },
                {"'entries' twice"});
}

// Each change damages one field of a good entry; the message names the entry and the field.
TEST(ReadPack, NamesTheDamagedField) {
  const std::vector<std::pair<std::string, Json>> damage = {{"/key", 1},
                                                            {"/key/op_name", 1},
                                                            {"/key/op_name", ""},
                                                            {"/key/shape_signature", Json::array()},
                                                            {"/key/shape_signature/rows", 1.5},
                                                            {"/language", nullptr},
                                                            {"/source", ""},
                                                            {"/func_name", 7},
                                                            {"/protocol", nullptr},
                                                            {"/knobs", Json::array()},
                                                            {"/template_params", 1},
                                                            {"/knobs", {{"VEC", 32}}},
                                                            {"/target", "x86"},
                                                            {"/metrics", 1},
                                                            {"/metrics/bit_exact", "yes"},
                                                            {"/rows_range", {1}},
                                                            {"/rows_range", {8, 2}},
                                                            {"/rows_range", {0, 2}}};
  const Json good = Json::parse(write_text(pack_of({entry_of(1, 2, 3)})));
  ASSERT_NO_THROW(parse_pack(good.dump(), "x"));
  for (const auto& [pointer, value] : damage) {
    Json bad = good;
    bad["entries"][0][Json::json_pointer(pointer)] = value;
    SCOPED_TRACE(pointer + " = " + value.dump());
    expect_misuse([&] { parse_pack(bad.dump(), "pins.json"); }, {"[packs] pins.json, entry 1: "});
  }
}

TEST(ReadPack, RefusesSchema1ThatStandsForTooMuch) {
  Json op = {{"metal_source", std::string(1 << 20, 'x')}, {"shape_signatures", Json::array()}};
  for (int rows = 1; rows <= 100; ++rows) op["shape_signatures"].push_back({{"rows", rows}});
  expect_misuse(
      [&] {
        parse_pack(Json({{"ops", {{"rmsnorm", op}}}}).dump(), "pins.json");
      },
      {"pins.json, op 'rmsnorm'", "split the file"});
}

TEST(ReadWinners, TakesARunDirectory) {
  Folder folder;
  fs::create_directory(folder / "run");
  expect_misuse([&] { read_winners(folder / "run"); }, {"not a run directory"});
  write(folder / "run/run_meta.json", "{}");
  expect_misuse([&] { read_winners(folder / "run"); }, {"no winners yet", "--resume"});
  write_pack(folder / "run/best_kernels.json", pack_of({entry_of(1, 2, 3)}));
  EXPECT_EQ(read_winners(folder / "run").entries.size(), 1u);
  EXPECT_EQ(read_winners(folder / "run/best_kernels.json").entries.size(), 1u);
}

}  // namespace
}  // namespace mlx_kd::packs

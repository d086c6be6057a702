// Schema 4: what many entries have in common is in the file once, and nothing is lost by it.
#include "mlx_kd/packs/file/compact.h"

#include "mlx_kd/base/sha256.h"
#include "tests/packs/fixtures.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

Json file_of(const std::vector<Entry>& entries) {
  return Json::parse(write_text(pack_of(entries)));
}

std::vector<Json> whole(const Pack& pack) {
  std::vector<Json> result;
  for (const Entry& entry : pack.entries) result.push_back(to_json(entry));
  return result;
}

std::string text_of_golden(const std::string& name) {
  return base::read_file(golden(name), "packs");
}

TEST(Compact, WritesASourceOnceUnderItsHash) {
  const Json file = file_of({entry_of(1, 2, 3), entry_of(2, 2, 3)});
  const Entry entry = entry_of(1, 2, 3);
  EXPECT_EQ(file.at("sources"), Json({{entry.source_hash, entry.source}}));
  for (const Json& stored : file.at("entries")) EXPECT_FALSE(stored.contains("source"));
}

TEST(Compact, WritesWhatEntriesShareOnce) {
  Entry other = entry_of(4, 2, 3);
  other.target = {{"isa", Json::array()}, {"cores", 1}};
  const Json file = file_of({entry_of(1, 2, 3), entry_of(2, 2, 3), other});
  ASSERT_EQ(file.at("common").size(), 2u);
  EXPECT_EQ(file.at("common")[0].at("target"), entry_of(1, 2, 3).target);
  EXPECT_EQ(file.at("common")[1].at("target"), other.target);
  std::vector<int> refers;
  for (const Json& stored : file.at("entries")) {
    refers.push_back(stored.at("common"));
    EXPECT_FALSE(stored.contains("target") || stored.contains("protocol"));
  }
  EXPECT_EQ(refers, (std::vector<int>{0, 0, 1}));
}

// zmlx.kd reads `entries` alone, skips those without metal_source, and keeps nothing else of the
// file when it writes it.
TEST(Compact, WritesMetalEntriesWhole) {
  const Json file = Json::parse(write_text(parse_pack(text_of_golden("schema3.json"), "x")));
  const Json& metal = file.at("entries")[3];
  for (const char* name : {"key", "candidate_id", "func_name", "metal_source", "inputs_spec",
                           "outputs_spec", "template_params", "launch_params", "source_hash",
                           "metrics", "language", "protocol", "proof", "target"})
    EXPECT_TRUE(metal.contains(name)) << name;
  EXPECT_FALSE(metal.contains("common"));
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(file.at("entries")[i].contains("metal_source"));
    EXPECT_EQ(file.at("entries")[i].at("key").size(), 6u);
  }
}

TEST(Compact, AnEntrysOwnMembersCountOverTheCommonOnes) {
  Json file = file_of({entry_of(1, 2, 3), entry_of(2, 2, 3)});
  file["entries"][0]["protocol"] = "mine";
  file["entries"][0]["source"] = "int mine;";
  const Pack pack = parse_pack(file.dump(), "x");
  EXPECT_EQ(pack.entries[0].protocol, "mine");
  EXPECT_EQ(pack.entries[0].source, "int mine;");
  EXPECT_EQ(pack.entries[1].source, entry_of(2, 2, 3).source);
}

// A hand changed the text and left the hash: both are kept.
TEST(Compact, ASourceOfAnotherHashStaysInItsEntry) {
  Entry changed = entry_of(1, 2, 3);
  changed.source += "// changed";
  const Json file = file_of({changed, entry_of(2, 2, 3)});
  EXPECT_EQ(file.at("entries")[0].at("source"), changed.source);
  EXPECT_EQ(file.at("sources").size(), 1u);
  EXPECT_EQ(parse_pack(file.dump(), "x").entries[0].source, changed.source);
}

TEST(Compact, UnknownMembersOfCommonBelongToTheEntries) {
  Json file = file_of({entry_of(1, 2, 3)});
  file["common"][0]["lab"] = "cellar";
  const Pack pack = parse_pack(file.dump(), "x");
  EXPECT_EQ(pack.entries[0].other, Json({{"lab", "cellar"}}));
  EXPECT_EQ(whole(parse_pack(write_text(pack), "x")), whole(pack));
}

TEST(Compact, IsOneLinePerEntrySourceAndCommonObject) {
  const std::string text = write_text(pack_of({entry_of(1, 2, 3), entry_of(2, 2, 3)}));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 9);
  EXPECT_EQ(write_text(pack_of({})),
            "{\"common\":[],\n\"entries\":[],\n\"runtime\":{\"device_arch\":\"x86_64\","
            "\"device_name\":\"Some CPU\",\"mlx_version\":\"0.32.4\"},\n\"schema_version\":\"4\","
            "\n\"sources\":{}}\n");
}

TEST(OlderPack, OfSchema3GivesTheEntriesThatItsNewFormGives) {
  const Pack old = parse_pack(text_of_golden("schema3.json"), "x");
  const Pack now = parse_pack(write_text(old), "x");
  EXPECT_EQ(old.schema, 3);
  EXPECT_EQ(now.schema, 4);
  EXPECT_EQ(whole(now), whole(old));
  EXPECT_EQ(now.other, old.other);
  EXPECT_EQ(now.runtime, old.runtime);
  for (const Entry& entry : now.entries) {
    EXPECT_EQ(candidate_id_of(entry), entry.candidate_id);
    EXPECT_EQ(source_hash_of(entry), entry.source_hash);
  }
}

TEST(OlderPack, NamesOfProtocolsAndProofsAreThoseOfToday) {
  const Pack old = parse_pack(text_of_golden("schema3.json"), "x");
  EXPECT_EQ(old.entries[0].protocol, "2");
  EXPECT_EQ(old.entries[2].protocol, "0123456789abcdef");
  EXPECT_EQ(old.entries[3].protocol, "2-device-clock");
  EXPECT_EQ(old.entries[0].proof, Json::parse(R"({"version": 1, "seeds": [1, 2, 3], "runs": 2,
      "distributions": ["normal", "magnitudes", "special"], "reference_bytes": 536870912,
      "tiny_subnormals": 2.0, "bit_exact": true})"));
  EXPECT_EQ(old.entries[2].proof.at("bound"), "another");  // not one of our versions
}

// What schema 4 added has no meaning in older files, whatever it is.
TEST(OlderPack, MembersThatSchema4AddedAreNotRead) {
  Json old = Json::parse(text_of_golden("schema3.json"));
  old["common"] = old["sources"] = 1;
  old["entries"][0].update(
      Json({{"contract", "x"}, {"ranges", 3}, {"approximate", true}, {"common", 9}}));
  const Pack pack = parse_pack(old.dump(), "x");
  EXPECT_EQ(pack.entries[0].contract, 1);
  EXPECT_FALSE(pack.entries[0].approximate);
  EXPECT_EQ(whole(parse_pack(write_text(pack), "x")), whole(pack));
}

const std::string& shipped() {
  static const std::string text =
      base::read_file(MLX_KD_SOURCE_DIR "/packs/x86_64-amd-epyc.json", "packs");
  return text;
}

// Both hashes were computed with Python's json and hashlib from the file of schema 3 that it was
// converted from: 105 entries, 2142311 bytes.
TEST(ShippedPack, LostNothingWhenItBecameSchema4) {
  const Pack pack = parse_pack(shipped(), "x");
  EXPECT_EQ(pack.schema, 4);
  EXPECT_LE(shipped().size(), 300000u);
  ASSERT_EQ(pack.entries.size(), 105u);
  Json names = Json::array();
  for (const Entry& e : pack.entries) {
    names.push_back({e.candidate_id, e.source_hash, spec::to_json(e.key), e.knobs, e.launch_params,
                     e.func_name});
    EXPECT_EQ(source_hash_of(e), e.source_hash);
    EXPECT_EQ(candidate_id_of(e), e.candidate_id);
  }
  EXPECT_EQ(base::sha256_hex(base::canonical_json(names)),
            "ac62dfbae64e77f7444990bfb01ae8cfaddacfa2ae173b923ec3f92bab96ff4c");
  // Whole entries, of protocol "2" and with the proof's version in the place of its sentences.
  EXPECT_EQ(base::sha256_hex(base::canonical_json(whole(pack))),
            "3fa63ea39e5f49b70ec8592afd09b14f76932d12d06d611e1716fd625bfa6968");
}

TEST(ShippedPack, IsWhatTheProgramWrites) {
  EXPECT_EQ(write_text(parse_pack(shipped(), "x")), shipped());
}

// Damage to a file of two entries: a change of the value at a pointer, and what the message says.
TEST(DamagedCompact, IsNamed) {
  const std::string hash = entry_of(1, 2, 3).source_hash;
  const struct {
    std::string pointer;
    Json value;
    std::string message;
  } cases[] = {
      {"/common", Json::object(), "pins.json: 'common' is not an array"},
      {"/common", "x", "'common' is not an array"},
      {"/common/0", 1, "pins.json, entry 1: number 0 of the file's 'common' is not an object"},
      {"/common/0/common", 0, "entry 1: number 0 of the file's 'common' refers to another one"},
      {"/common/0/language", nullptr, "entry 1: there is no 'language'"},
      {"/sources", Json::array(), "pins.json: 'sources' is not an object"},
      {"/sources", Json::object(), "entry 1: its source '" + hash + "' is not among the file's"},
      {"/sources", nullptr, "entry 1: its source '" + hash + "' is not among the file's"},
      {"/sources/" + hash, 3, "' is not a text"},
  };
  const Json good = file_of({entry_of(1, 2, 3), entry_of(2, 2, 3)});
  for (const auto& [pointer, value, message] : cases) {
    Json bad = good;
    bad[Json::json_pointer(pointer)] = value;
    SCOPED_TRACE(pointer + " = " + value.dump());
    expect_misuse([&] { parse_pack(bad.dump(), "pins.json"); }, {"[packs] ", message});
  }
}

TEST(DamagedCompact, AReferenceToWhatIsNotThereIsNamed) {
  const Json good = file_of({entry_of(1, 2, 3), entry_of(2, 2, 3)});
  for (const Json& common :
       {Json(1), Json(-1), Json("0"), Json(0.0), Json(UINT64_MAX), Json::array(), Json(nullptr)}) {
    Json bad = good;
    bad["entries"][1]["common"] = common;
    expect_misuse([&] { parse_pack(bad.dump(), "pins.json"); },
                  {"pins.json, entry 2: its 'common' is not one of the 1 that the file has"});
  }
  Json bad = good;
  bad["entries"][1]["source_hash"] = "0000";
  expect_misuse([&] { parse_pack(bad.dump(), "pins.json"); },
                {"entry 2: its source '0000' is not among the file's 'sources'"});
  bad["entries"][1].erase("source_hash");
  expect_misuse([&] { parse_pack(bad.dump(), "pins.json"); }, {"entry 2: there is no 'source'"});
}

TEST(DamagedCompact, ASourceThatIsNotOfItsHashIsNamed) {
  Json bad = file_of({entry_of(1, 2, 3)});
  const std::string hash = entry_of(1, 2, 3).source_hash;
  bad["sources"][hash] = "int another;";
  expect_misuse([&] { parse_pack(bad.dump(), "pins.json"); },
                {"pins.json, entry 1: the text of source '" + hash, "its hash differs"});
  bad = file_of({entry_of(1, 2, 3)});
  bad["common"][0]["language"] = "cuda";  // the hash is of the language, too
  expect_misuse([&] { parse_pack(bad.dump(), "pins.json"); }, {"its hash differs"});
}

TEST(DamagedCompact, AFewBytesThatWouldFillTheMemoryAreRefused) {
  const Json file = file_of({entry_of(1, 2, 3)});
  const Json& entry = file.at("entries")[0];
  const size_t bytes = Opener(file, 1 << 20).open(entry).dump().size();
  Opener opener(file, 3 * bytes);
  expect_misuse(
      [&] {
        for (int i = 0; i < 100; ++i) opener.open(entry);
      },
      {"split the file"});
}

// What zmlx.kd writes of a file that it installs into.
TEST(DamagedCompact, SaysWhatToDoAfterAProgramThatDropsTheTables) {
  Json file = Json::parse(write_text(parse_pack(text_of_golden("schema3.json"), "x")));
  const Json entries = file.at("entries");
  file = {{"schema_version", "2"}, {"runtime", Json::object()}, {"entries", entries}};
  expect_misuse([&] { parse_pack(file.dump(), "pins.json"); },
                {"pins.json, entry 1: ", "does not know schema 4", "install the run again"});
  file["entries"] = {entries[3]};
  EXPECT_EQ(parse_pack(file.dump(), "pins.json").entries[0].language, "metal");
}

}  // namespace
}  // namespace mlx_kd::packs

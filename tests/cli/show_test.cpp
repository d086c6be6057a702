#include "packs_kd.h"

namespace mlx_kd::cli {
namespace {

using packs_test::entry_json;
using packs_test::Json;

class ShowVerb : public packs_test::PacksVerb {};

TEST_F(ShowVerb, ListsARun) {
  write_run("run", {entry_json(1, 4, "rmsnorm_a")});
  const packs_test::Ran ran = kd("show run");
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(ran.out,
            "op       dtype    shape          kernel     language  us  speed-up              "
            "protocol  device             target\n"
            "rmsnorm  float32  D=2048,rows=1  rmsnorm_a  cpp        5  3.50x (3.25 to 3.75)  "
            "abcdef    Some CPU (x86_64)  cores=2 isa=avx2,f16c\n"
            "run: 1 entry, schema 3\n");
}

TEST_F(ShowVerb, ListsPacksOfTheFirstVersion) {
  const std::string golden = MLX_KD_SOURCE_DIR "/tests/packs/golden/";
  const packs_test::Ran one = kd("show '" + golden + "schema1.json'");
  EXPECT_EQ(one.exit_code, 0) << one.err;
  EXPECT_NE(one.out.find("5 entries, schema 1"), std::string::npos) << one.out;
  EXPECT_NE(one.out.find("any"), std::string::npos) << one.out;
  EXPECT_NE(kd("show '" + golden + "schema2.json'").out.find("1.21x"), std::string::npos);
}

TEST_F(ShowVerb, PrintsEntriesWithoutSourcesAsJson) {
  write("pins.json", packs_test::pack_text({entry_json(1, 4, "rmsnorm_a")}));
  const Json json = Json::parse(kd("show pins.json --json").out);
  const Json& entry = json.at("entries").at(0);
  EXPECT_EQ(entry.at("candidate_id"), "rmsnorm_a");
  EXPECT_FALSE(entry.contains("source"));
}

TEST_F(ShowVerb, DoesNotPassControlCharactersOn) {
  write("pins.json", packs_test::pack_text({entry_json(1, 4, "rmsnorm_\x1b[2J")}));
  EXPECT_EQ(kd("show pins.json").out.find('\x1b'), std::string::npos);
}

TEST_F(ShowVerb, ListsWhatTwoPacksPinDifferently) {
  write("a.json", packs_test::pack_text({entry_json(1, 4, "rmsnorm_a"), entry_json(2, 4, "x")}));
  write("b.json", packs_test::pack_text({entry_json(1, 4, "rmsnorm_b"), entry_json(2, 4, "x")}));
  const packs_test::Ran ran = kd("show --diff a.json b.json");
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_NE(ran.out.find("kernel  rmsnorm  float32  D=2048,rows=1  rmsnorm_a    rmsnorm_b"),
            std::string::npos)
      << ran.out;
  EXPECT_NE(ran.out.find("a.json -> b.json: 1 difference\n"), std::string::npos) << ran.out;
  const Json json = Json::parse(kd("show --diff a.json b.json --json").out);
  EXPECT_EQ(json.at("differences").at(0).at("difference"), "kernel");
  EXPECT_EQ(kd("show --diff a.json a.json").out, "a.json -> a.json: 0 differences\n");
  expect_misuse("show --diff a.json", "--diff");
  expect_misuse("show a.json --diff a.json b.json", "--diff");
}

TEST_F(ShowVerb, RefusesWhatIsNoPack) {
  write("thesis.json", "{}");
  expect_misuse("show", "file is required");
  expect_misuse("show none.json", "none.json");
  expect_misuse("show thesis.json", "thesis.json is not a pack");
  expect_misuse("show .", "not a run directory");
}

}  // namespace
}  // namespace mlx_kd::cli

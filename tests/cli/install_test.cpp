#include "packs_kd.h"

namespace mlx_kd::cli {
namespace {

using packs_test::Json;

class InstallVerb : public packs_test::PacksVerb {};

TEST_F(InstallVerb, SaysWhatItAddedReplacedAndKept) {
  write("pins.json", packs_test::pack_text({packs_test::entry_json(1, 4, "rmsnorm_old"),
                                            packs_test::entry_json(2, 4, "rmsnorm_old"),
                                            packs_test::entry_json(9, 4, "rmsnorm_old")}));
  write_run("run", {packs_test::entry_json(1, 3, "rmsnorm_new"),
                    packs_test::entry_json(2, 5, "rmsnorm_new"),
                    packs_test::entry_json(3, 5, "rmsnorm_new")});
  const packs_test::Ran ran = kd("install --run run --output pins.json");
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(ran.err, "");
  EXPECT_EQ(
      ran.out,
      "          op       dtype    shape          kernel\n"
      "replaced  rmsnorm  float32  D=2048,rows=1  rmsnorm_new  the file's was slower than "
      "rmsnorm_new: 4 us, not 3 us\n"
      "kept      rmsnorm  float32  D=2048,rows=2  rmsnorm_new  slower than rmsnorm_old: 5 us, "
      "not 4 us\n"
      "added     rmsnorm  float32  D=2048,rows=3  rmsnorm_new\n"
      "pins.json: 1 other entry kept\n");
}

TEST_F(InstallVerb, PrintsJson) {
  write_run("run", {packs_test::entry_json(1, 3, "rmsnorm_new")});
  const Json json = Json::parse(kd("install --run run --output pins.json --json").out);
  EXPECT_EQ(json.at("changes").at(0).at("change"), "added");
  EXPECT_EQ(json.at("changes").at(0).at("candidate_id"), "rmsnorm_new");
  EXPECT_EQ(json.at("other_entries_kept"), 0);
}

TEST_F(InstallVerb, RefusesBadInputAndWritesNothing) {
  write_run("run", {packs_test::entry_json(1, 3, "rmsnorm_new")});
  write_run("empty", {});
  write_run("invented", {packs_test::entry_json(1, 3, "rmsnorm_new", "null")});
  write("newer/best_kernels.json", R"({"schema_version": "5", "entries": []})");
  write("cut/best_kernels.json", R"({"schema_version": "3", "entr)");
  write("twice/best_kernels.json", R"({"schema_version": "3", "entries": [], "entries": []})");
  write("text/best_kernels.json", "{}");
  expect_misuse("install --output pins.json", "--run is required");
  expect_misuse("install --run run", "--output is required");
  expect_misuse("install --run none --output pins.json", "none");
  expect_misuse("install --run empty --output pins.json", "holds no winners");
  expect_misuse("install --run invented --output pins.json", "null device");
  expect_misuse("install --run newer --output pins.json", "schema 5");
  expect_misuse("install --run cut --output pins.json", "not JSON");
  expect_misuse("install --run twice --output pins.json", "'entries' twice");
  expect_misuse("install --run text --output pins.json", "is not a pack");
  expect_misuse("install --run run --output run/best_kernels.json/pins.json", "is not a folder");
  expect_misuse("install --run run --output empty", "not a file");
  EXPECT_FALSE(packs_test::fs::exists(folder_ / "pins.json"));
  EXPECT_FALSE(packs_test::fs::exists(folder_ / "pins.json.lock"));
}

}  // namespace
}  // namespace mlx_kd::cli

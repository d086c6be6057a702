#include "packs_kd.h"

namespace mlx_kd::cli {
namespace {

using packs_test::entry_json;
using packs_test::Json;

class PackVerb : public packs_test::PacksVerb {};

TEST_F(PackVerb, KeepsTheBestAndSaysWhatItDropped) {
  write_run("a", {entry_json(1, 4, "rmsnorm_a"), entry_json(2, 4, "rmsnorm_a")});
  write_run("b", {entry_json(1, 3, "rmsnorm_b")});
  const packs_test::Ran ran = kd("pack --runs a b/best_kernels.json --out all.json");
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(ran.out,
            "dropped  dtype    shape          kernel     from  why\n"
            "rmsnorm  float32  D=2048,rows=1  rmsnorm_a  a     slower than rmsnorm_b: 4 us, not 3 "
            "us\n"
            "all.json: 2 entries, 1 dropped\n");
  const std::string first = packs_test::text_of(folder_ / "all.json");
  EXPECT_EQ(kd("pack --runs b a --out all.json").exit_code, 0);
  EXPECT_EQ(packs_test::text_of(folder_ / "all.json"), first);
}

TEST_F(PackVerb, ComparesProtocolsOnlyWhenTold) {
  write_run("a", {entry_json(1, 4, "rmsnorm_a", "abc")});
  write_run("b", {entry_json(1, 3, "rmsnorm_b", "v1")});
  expect_misuse("pack --runs a b --out all.json", "--prefer-protocol");
  expect_misuse("pack --runs a b --out all.json --prefer-protocol xyz", "'abc' or 'v1'");
  EXPECT_FALSE(packs_test::fs::exists(folder_ / "all.json"));
  const packs_test::Ran ran = kd("pack --runs a b --out all.json --prefer-protocol abc --json");
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(Json::parse(ran.out).at("dropped").at(0).at("candidate_id"), "rmsnorm_b");
}

TEST_F(PackVerb, ReportsSpeedUpsThatDifferBeyondTheirIntervals) {
  Json other = entry_json(1, 3, "rmsnorm_a");
  other["metrics"].update({{"speedup_vs_ref", 5.5}, {"speedup_lo", 5.25}, {"speedup_hi", 5.75}});
  write_run("a", {entry_json(1, 4, "rmsnorm_a")});
  write_run("b", {other});
  const packs_test::Ran ran = kd("pack --runs a b --out all.json");
  EXPECT_NE(ran.out.find("3.50x (3.25 to 3.75) in a  5.50x (5.25 to 5.75) in b"), std::string::npos)
      << ran.out;
  EXPECT_NE(ran.err.find("--remeasure decides here"), std::string::npos) << ran.err;
  const Json json = Json::parse(kd("pack --runs a b --out all.json --json").out);
  EXPECT_EQ(json.at("disagreements").at(0).at("high").at("origin"), "b");
  // Of another machine: nothing is measured, and both are kept as they were.
  const packs_test::Ran kept = kd("pack --runs a b --out all.json --remeasure --quiet");
  EXPECT_EQ(kept.exit_code, 0) << kept.err;
  EXPECT_NE(kept.out.find("which is not this machine's"), std::string::npos) << kept.out;
}

TEST_F(PackVerb, SplitsByDeviceAndOperator) {
  write_run("a", {entry_json(1, 4, "rmsnorm_a"), entry_json(2, 4, "rmsnorm_a")});
  const packs_test::Ran ran = kd("pack --runs a --out packs --split-by device,op");
  EXPECT_EQ(ran.out, "packs: 1 pack, 2 entries, 0 dropped\n") << ran.err;
  EXPECT_EQ(kd("show packs/some-cpu-x86-64-rmsnorm.json").exit_code, 0);
  expect_misuse("pack --runs a --out packs --split-by shape", "device, op or device,op");
  expect_misuse("pack --runs a --out packs", "packs is not a file");
  expect_misuse("pack --runs a --out packs/some-cpu-x86-64-rmsnorm.json --split-by op",
                "is not a folder");
}

TEST_F(PackVerb, ShowsTheFirstOfManyRows) {
  std::vector<Json> slow, fast;
  for (int i = 1; i <= 50; ++i)
    slow.push_back(entry_json(i, 4, "rmsnorm_a")), fast.push_back(entry_json(i, 3, "rmsnorm_b"));
  write_run("a", slow);
  write_run("b", fast);
  EXPECT_NE(kd("pack --runs a b --out all.json").out.find("... and 10 more: --json lists all\n"),
            std::string::npos);
}

TEST_F(PackVerb, RefusesBadInputAndWritesNothing) {
  write_run("run", {entry_json(1, 3, "rmsnorm_new")});
  write_run("invented", {entry_json(1, 3, "rmsnorm_new", "null")});
  write_run("empty", {});
  write("thesis.json", "[]");
  expect_misuse("pack --out all.json", "--runs is required");
  expect_misuse("pack --runs run", "--out is required");
  expect_misuse("pack --runs --out all.json", "--runs has no value: --out follows it");
  expect_misuse("pack --out --runs run", "--out has no value: --runs follows it");
  expect_misuse("pack --runs run none --out all.json", "none");
  expect_misuse("pack --runs run invented --out all.json", "null device");
  expect_misuse("pack --runs run empty --out all.json", "empty holds no winners");
  expect_misuse("pack --runs run --out thesis.json", "thesis.json is not a pack");
  EXPECT_EQ(packs_test::text_of(folder_ / "thesis.json"), "[]");
  EXPECT_FALSE(packs_test::fs::exists(folder_ / "all.json"));
}

}  // namespace
}  // namespace mlx_kd::cli

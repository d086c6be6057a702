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

TEST_F(PackVerb, RefusesBadInputAndWritesNothing) {
  write_run("run", {entry_json(1, 3, "rmsnorm_new")});
  write_run("invented", {entry_json(1, 3, "rmsnorm_new", "null")});
  write_run("empty", {});
  write("thesis.json", "[]");
  expect_misuse("pack --out all.json", "--runs is required");
  expect_misuse("pack --runs run", "--out is required");
  expect_misuse("pack --runs run none --out all.json", "none");
  expect_misuse("pack --runs run invented --out all.json", "null device");
  expect_misuse("pack --runs run empty --out all.json", "empty holds no winners");
  expect_misuse("pack --runs run --out thesis.json", "thesis.json is not a pack");
  EXPECT_EQ(packs_test::text_of(folder_ / "thesis.json"), "[]");
  EXPECT_FALSE(packs_test::fs::exists(folder_ / "all.json"));
}

}  // namespace
}  // namespace mlx_kd::cli

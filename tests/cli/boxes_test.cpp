// Ranges of two dims, claims of what MLX cannot do and approximate kernels, through kd run,
// kd revalidate and kd bundle: kd_odd_spaces is kd with other operators.
#include <gtest/gtest.h>

#include "mlx_kd/packs/pack.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::tests {
namespace {

namespace fs = std::filesystem;
using base::Json;

CliResult odd_kd(const std::vector<std::string>& arguments) {
  return run_cli(arguments, {.program = MLX_KD_ODD_SPACES});
}

class Boxes : public testing::Test {
 protected:
  // Whole entries, as a file of schema 4 may hold them.
  Json pack_in(const fs::path& path) const {
    Json entries = Json::array();
    for (const packs::Entry& entry : packs::read_pack(path).entries)
      entries.push_back(packs::to_json(entry));
    return {{"schema_version", "4"}, {"runtime", Json::object()}, {"entries", entries}};
  }

  // The pack of a run over M 1 to 2 and S 8 to 40.
  Json found(const std::string& op, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"run", "--op", op, "--dtype", "float32", "--budget", "2"};
    for (const char* text : {"--finalists", "1", "--claims", "quick", "--shapes", "M=2,S=16",
                             "--range", "S=8:40", "--range", "M=1:2", "--quiet", "--out"})
      arguments.push_back(text);
    arguments.push_back((dir_ / "run").string());
    arguments.insert(arguments.end(), more.begin(), more.end());
    said_ = odd_kd(arguments);
    EXPECT_EQ(said_.code, 0) << said_.err;
    return pack_in(dir_ / "run" / "best_kernels.json");
  }

  static Json& boxed(Json& pack) {
    for (Json& entry : pack["entries"])
      if (entry.contains("ranges")) return entry;
    ADD_FAILURE() << "no entry states a box: " << pack.dump();
    return pack["entries"][0];
  }

  // The entries as MLX 0.30.0 would have them.
  void write(Json pack) {
    for (Json& entry : pack["entries"]) entry["key"]["mlx_version"] = "0.30.0";
    std::ofstream(dir_ / "pins.json") << pack.dump();
  }

  Json revalidated() {
    const auto result = odd_kd({"revalidate", (dir_ / "pins.json").string(), "--json", "--quiet"});
    EXPECT_EQ(result.code, 0) << result.err;
    return Json::parse(result.out);
  }

  CliResult bundle() {
    return odd_kd({"bundle", (dir_ / "run" / "best_kernels.json").string(), "--json", "-o",
                   (dir_ / "bundle.json").string()});
  }

  const TempDir dir_;
  CliResult said_;
};

void expect_box(const Json& entry) {
  EXPECT_EQ(entry.at("rows_range"), Json::parse("[1, 2]"));
  EXPECT_EQ(entry.at("rows_sampled"), Json::parse("[1, 2]"));
  EXPECT_EQ(entry.at("ranges"), Json::parse(R"({"S": [8, 40]})"));
  EXPECT_EQ(entry.at("sampled"), Json::parse(R"({"S": [8, 16, 31, 40]})"));
}

TEST_F(Boxes, AreStatedByOneEntryAndToldByTheRunAndItsReports) {
  Json pack = found("boxes");
  expect_box(boxed(pack));
  EXPECT_EQ(pack["entries"].size(), 8u);
  EXPECT_NE(said_.out.find("M 1 to 2, S 8 to 40: boxes_"), std::string::npos) << said_.out;
  EXPECT_NE(said_.out.find("faster than MLX at M 1, 2; S 8, 16, 31, 40"), std::string::npos);
  for (const char* name : {"report.md", "report.html"})
    EXPECT_NE(text_of(dir_ / "run" / name).find("S 8 to 40, rows 1 to 2 ("), std::string::npos);
  EXPECT_EQ(odd_kd({"run", "--op", "boxes", "--dtype", "float32", "--shapes", "M=2,S=16", "--range",
                    "S=8:41", "--range", "M=1:2", "--resume", "--out", (dir_ / "run").string()})
                .code,
            2);
}

TEST_F(Boxes, AreClaimedAgainWhereMlxCannotCompute) {
  Json pack = found("boxes");
  for (const Json& entry : pack["entries"]) EXPECT_EQ(entry.at("claim_kind"), "mlx_cannot");
  write(pack);
  for (const Json& entry : revalidated().at("entries"))
    EXPECT_EQ(entry.at("outcome"), "proved") << entry.dump();
  Json now = pack_in(dir_ / "pins.json");
  expect_box(boxed(now));
  EXPECT_EQ(now["entries"].size(), 8u);
  for (const Json& entry : now["entries"]) EXPECT_EQ(entry.at("claim_kind"), "mlx_cannot");
}

// Wrong from S = 31 on, and right at the other samples.
TEST_F(Boxes, OfAKernelThatIsWrongAtASampleAreDropped) {
  Json pack = found("boxes");
  Json entry = boxed(pack);
  const std::string source = entry["source"];
  const std::string bad = "y[i] = dims[1] > 30 ? 0 : ";
  const size_t at = source.find("y[i] = ");
  ASSERT_NE(at, source.npos);
  entry["source"] = std::string(source).replace(at, 7, bad);
  pack["entries"] = {entry};
  write(pack);
  const Json told = revalidated().at("entries").at(0);
  EXPECT_EQ(told.at("outcome"), "dropped");
  EXPECT_EQ(told.at("why").get<std::string>().find("wrong"), 0u) << told.dump();
  EXPECT_TRUE(pack_in(dir_ / "pins.json").at("entries").empty());
}

TEST_F(Boxes, OfApproximateKernelsStayApproximate) {
  Json pack = found("rough_boxes", {"--allow-approximate"});
  EXPECT_TRUE(boxed(pack).at("approximate"));
  write(pack);
  for (const Json& entry : revalidated().at("entries"))
    EXPECT_EQ(entry.at("outcome"), "proved") << entry.dump();
  Json now = pack_in(dir_ / "pins.json");
  EXPECT_TRUE(boxed(now).at("approximate"));
}

// The bound is that of the kernel's variant, and not of what the entry says.
TEST_F(Boxes, OfAnEntryThatSaysTheWrongThingAreKeptAndNamed) {
  Json pack = found("boxes");
  for (Json& entry : pack["entries"]) entry["approximate"] = true;
  pack["entries"][0]["approximate"] = false;
  pack["entries"][0]["ranges"] = {{"S", {1, 1 << 20}}};
  pack["entries"][0]["sampled"] = {{"S", Json::array()}};
  pack["entries"][0]["rows_range"] = {1, 1 << 30};
  write(pack);
  const Json entries = revalidated().at("entries");
  EXPECT_EQ(entries[0].at("outcome"), "kept");
  EXPECT_NE(entries[0].at("why").get<std::string>().find("2^47"), std::string::npos)
      << entries[0].dump();
  EXPECT_EQ(entries[1].at("outcome"), "kept");
  EXPECT_NE(entries[1].at("why").get<std::string>().find("marked as approximate"),
            std::string::npos)
      << entries[1].dump();
}

TEST_F(Boxes, AreBundledWithTheirRangesAndClaims) {
  for (const char* op : {"boxes", "rough_boxes"}) {
    fs::remove_all(dir_ / "run");
    Json pack = found(op, {"--allow-approximate"});
    const auto result = bundle();
    EXPECT_EQ(result.code, 0) << result.err << result.out;
    Json bundled = pack_in(dir_ / "bundle.json");
    EXPECT_EQ(bundled["entries"].size(), 8u) << result.out;
    for (const Json& entry : bundled["entries"]) EXPECT_TRUE(entry.contains("object"));
    expect_box(boxed(bundled));
  }
}

TEST_F(Boxes, OfAKernelThatIsWrongAtASampleAreNotBundled) {
  Json pack = found("boxes");
  Json entry = boxed(pack);
  const std::string source = entry["source"];
  entry["source"] =
      std::string(source).replace(source.find("y[i] = "), 7, "y[i] = dims[0] == 1 ? 0 : ");
  pack["entries"] = {entry};
  std::ofstream(dir_ / "run" / "best_kernels.json") << pack.dump();
  const auto result = bundle();
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.out.find("\"why\": \"wrong: "), std::string::npos) << result.out;
  EXPECT_FALSE(fs::exists(dir_ / "bundle.json"));
}

}  // namespace
}  // namespace mlx_kd::tests

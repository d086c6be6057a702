#include <set>

#include "packs_kd.h"

namespace mlx_kd::cli {
namespace {

using packs_test::Json;

class OpsVerb : public packs_test::PacksVerb {};

// One folder with an op.cpp is one operator.
std::set<std::string> op_folders() {
  std::set<std::string> names;
  for (const auto& item : packs_test::fs::directory_iterator(MLX_KD_SOURCE_DIR "/mlx_kd/kernels"))
    if (packs_test::fs::exists(item.path() / "op.cpp")) names.insert(item.path().filename());
  return names;
}

TEST_F(OpsVerb, ListsEveryFolderOfKernels) {
  const packs_test::Ran ran = kd("ops --json");
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  std::set<std::string> names;
  for (const Json& op : Json::parse(ran.out)) names.insert(op.at("name"));
  EXPECT_EQ(names, op_folders());
}

TEST_F(OpsVerb, SaysAllThatAUserMayGive) {
  const std::string table = kd("ops").out;
  EXPECT_NE(table.find("types: float32, float16, bfloat16"), std::string::npos) << table;
  for (const Json& op : Json::parse(kd("ops --json").out)) {
    SCOPED_TRACE(op.at("name").dump());
    EXPECT_NE(table.find("\n" + op.at("name").get<std::string>() + "  "), std::string::npos);
    EXPECT_FALSE(op.at("summary").get<std::string>().empty());
    EXPECT_FALSE(op.at("bound").at("derivation").get<std::string>().empty());
    EXPECT_FALSE(op.at("inputs").empty());
    EXPECT_FALSE(op.at("outputs").empty());
    EXPECT_FALSE(op.at("variants").empty());
    const Json& sizes = op.at("suites").at(op.at("default_suite").get<std::string>());
    for (const Json& name : op.at("dims")) EXPECT_TRUE(sizes.at(0).contains(name));
  }
}

}  // namespace
}  // namespace mlx_kd::cli

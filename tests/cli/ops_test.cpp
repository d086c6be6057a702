#include <set>

#include "packs_kd.h"

namespace mlx_kd::cli {
namespace {

using packs_test::Json;

class OpsVerb : public packs_test::PacksVerb {};

// kernels/<family>/<op>/op.cpp is one operator, and vjp.cpp beside it another, <op>_vjp.
std::set<std::string> op_folders() {
  namespace fs = packs_test::fs;
  std::set<std::string> names;
  for (const auto& item : fs::recursive_directory_iterator(MLX_KD_SOURCE_DIR "/mlx_kd/kernels")) {
    const std::string folder = item.path().parent_path().filename();
    if (item.path().filename() == "op.cpp") names.insert(folder);
    if (item.path().filename() == "vjp.cpp") names.insert(folder + "_vjp");
  }
  return names;
}

bool has_a_bounded_output(const Json& op) {
  for (const Json& output : op.at("ports").at("outputs"))
    if (output.at("judge") == "bound") return true;
  return false;
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
    if (has_a_bounded_output(op)) {
      EXPECT_FALSE(op.at("bound").at("derivation").get<std::string>().empty());
    }
    EXPECT_FALSE(op.at("inputs").empty());
    EXPECT_FALSE(op.at("outputs").empty());
    EXPECT_FALSE(op.at("variants").empty());
    const Json& sizes = op.at("suites").at(op.at("default_suite").get<std::string>());
    for (const Json& name : op.at("dims")) EXPECT_TRUE(sizes.at(0).contains(name));
  }
}

}  // namespace
}  // namespace mlx_kd::cli

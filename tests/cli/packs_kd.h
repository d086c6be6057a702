// Running kd as a user does, for the verbs that read and write packs.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace mlx_kd::cli::packs_test {

namespace fs = std::filesystem;
using Json = nlohmann::json;

struct Ran {
  int exit_code;
  std::string out, err;
};

inline std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline Json entry_json(int rows, double kernel_us, const std::string& id,
                       const std::string& protocol = "abcdef") {
  return {{"key",
           {{"op_name", "rmsnorm"},
            {"mlx_version", "0.32.4"},
            {"device_arch", "x86_64"},
            {"device_name", "Some CPU"},
            {"dtype", "float32"},
            {"shape_signature", {{"rows", rows}, {"D", 2048}}}}},
          {"candidate_id", id},
          {"func_name", "mlx_kd_rmsnorm"},
          {"language", "cpp"},
          {"source", "int x;"},
          {"target", {{"cores", 2}, {"isa", {"avx2", "f16c"}}}},
          {"protocol", protocol},
          {"metrics",
           {{"kernel_us", kernel_us},
            {"latency_us", kernel_us + 1},
            {"speedup_vs_ref", 3.5},
            {"speedup_lo", 3.25},
            {"speedup_hi", 3.75}}}};
}

inline std::string pack_text(const std::vector<Json>& entries) {
  return Json({{"schema_version", "3"}, {"runtime", Json::object()}, {"entries", entries}}).dump();
}

// A folder of the test's own, in which kd runs.
class PacksVerb : public testing::Test {
 protected:
  PacksVerb() {
    std::string name = (fs::temp_directory_path() / "mlx_kd_cli.XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~PacksVerb() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }

  void write_run(const std::string& name, const std::vector<Json>& entries) {
    write(name + "/best_kernels.json", pack_text(entries));
  }

  Ran kd(const std::string& arguments) {
    const fs::path out = folder_ / ".out", err = folder_ / ".err";
    const std::string command = "cd '" + folder_.string() + "' && '" MLX_KD_PROGRAM "' " +
                                arguments + " >.out 2>.err </dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text_of(out), text_of(err)};
  }

  void expect_misuse(const std::string& arguments, const std::string& part) {
    const Ran ran = kd(arguments);
    EXPECT_EQ(ran.exit_code, 2) << arguments;
    EXPECT_EQ(ran.out, "") << arguments;
    EXPECT_NE(ran.err.find(part), std::string::npos) << arguments << ": " << ran.err;
  }

  fs::path folder_;
};

}  // namespace mlx_kd::cli::packs_test

// Run directories written by hand, as run_writer.h states the format, and the program kd on them.
#pragma once

#include <stdlib.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace mlx_kd::cli {

class RunFolder {
 public:
  RunFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "mlx_kd_XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~RunFolder() { std::filesystem::remove_all(path_); }
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

  void put(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
  }

  std::string text(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(path_ / name, std::ios::binary).rdbuf();
    return text.str();
  }

  // Two candidates on one size; the second takes kernel_us and wins 2x over MLX.
  void put_run(const std::string& name, const std::string& op, double kernel_us) const {
    put(name + "/run_meta.json",
        R"({"schema_version": "3", "created_at": "2026-11-22T10:04:05+01:00", "op_name": ")" + op +
            R"(", "seed": 0, "budget": 2, "dtype": "float32", "shape_suite": "custom",
            "runtime": {"mlx_version": "0.32.4"}, "sizes": ["rows=4,D=64"], "device": "null"})");
    const std::string winner = "c" + std::to_string(static_cast<int>(kernel_us));
    put(name + "/run.ndjson",
        record(op, "first", 9, 0) + record(op, winner, kernel_us, 1) +
            R"({"event":"finish","winners":[{"shape":{"rows":4,"D":64},)" + R"("candidate_id":")" +
            winner + R"("}],"claims":[{"shape":)" + R"({"rows":4,"D":64},"candidate_id":")" +
            winner + R"(","claimed":true,"metrics":{"kernel_us":)" + std::to_string(kernel_us) +
            R"(,"speedup_vs_ref":2.0,"speedup_lo":1.9,"speedup_hi":2.1}}]})" + "\n");
  }

 private:
  static std::string record(const std::string& op, const std::string& id, double kernel_us,
                            int step) {
    return R"({"event":"evaluation","status":"benchmarked","step":)" + std::to_string(step) +
           R"(,"op_name":")" + op + R"(","candidate_id":")" + id +
           R"(","language":"cpp","variant":"rows","source":"int x;","template_params":{"VEC":)" +
           std::to_string(16 << step) + R"(},"metrics":{"dtype":"float32","per_shape":[{"shape":)" +
           R"({"rows":4,"D":64},"kernel_us":)" + std::to_string(kernel_us) + "}]}}\n";
  }

  std::filesystem::path path_;
};

struct Outcome {
  int exit_code;
  std::string out;  // stdout; stderr too where the arguments say 2>&1
};

// Runs kd with shell-quoted arguments.
inline Outcome kd(const std::string& arguments) {
  FILE* pipe = ::popen(("'" MLX_KD_PROGRAM "' " + arguments).c_str(), "r");
  std::string out;
  std::array<char, 4096> buffer;
  for (size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    out.append(buffer.data(), n);
  const int status = ::pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, out};
}

}  // namespace mlx_kd::cli

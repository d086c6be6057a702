// What the tests of packs share: an entry, a folder that goes away, a check of messages.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/packs/pack.h"

namespace mlx_kd::packs {

// A folder of this test alone.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "mlx_kd_packs.XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path_); }
  fs::path operator/(const std::string& name) const { return path_ / name; }
  size_t count() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(path_), {}));
  }

 private:
  fs::path path_;
};

inline void write(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string golden(const std::string& name) {
  return std::string(MLX_KD_SOURCE_DIR) + "/tests/packs/golden/" + name;
}

// An entry of schema 3 as this program measures them; kernel and latency in us.
inline Entry entry_of(int64_t rows, double kernel_us, double latency_us,
                      const std::string& id = "rmsnorm_a") {
  Entry entry;
  entry.key = {"rmsnorm", "0.32.4", "x86_64", "Some CPU", "float32", {{"rows", rows}, {"D", 2048}}};
  entry.candidate_id = id;
  entry.func_name = "mlx_kd_rmsnorm";
  entry.language = "cpp";
  entry.source = "extern \"C\" void mlx_kd_rmsnorm() {}\n";
  entry.knobs = {{"VEC", 16}, {"THREADS", 2}};
  entry.launch_params = {{"launch_kind", "cpu_rows"}, {"THREADS", 2}};
  entry.runtime_inputs = {{"eps", 1e-6}};
  entry.target = {{"isa", {"avx2", "f16c"}}, {"cores", 2}};
  entry.proof = {{"seeds", 3}, {"bit_exact", true}};
  entry.source_hash = source_hash_of(entry);
  entry.protocol = "0123456789abcdef";
  entry.metrics.kernel_us = kernel_us;
  entry.metrics.latency_us = latency_us;
  return entry;
}

inline Pack pack_of(std::vector<Entry> entries) {
  Pack pack;
  pack.runtime = {
      {"mlx_version", "0.32.4"}, {"device_arch", "x86_64"}, {"device_name", "Some CPU"}};
  pack.entries = std::move(entries);
  return pack;
}

inline Entry with_speedup(Entry entry, double lo, double hi) {
  entry.metrics.speedup_lo = lo, entry.metrics.speedup_hi = hi;
  entry.metrics.speedup_vs_ref = (lo + hi) / 2;
  return entry;
}

// A run directory of these winners.
inline std::string run_with(const Folder& folder, const std::string& name, const Pack& pack) {
  fs::create_directory(folder / name);
  write_pack(folder / name / "best_kernels.json", pack);
  return folder / name;
}

inline std::string text_of(const fs::path& path) {
  return base::read_file(path, "packs");
}

// Runs it and checks that it is misuse whose message has all parts.
template <class Function>
void expect_misuse(const Function& function, const std::vector<std::string>& parts) {
  try {
    function();
    ADD_FAILURE() << "no misuse; expected one about " << parts[0];
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    for (const std::string& part : parts)
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

}  // namespace mlx_kd::packs

// A program with pins: packs with kernels that leave a mark, so that a test sees which one ran.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "mlx/fast.h"
#include "mlx/ops.h"
#include "mlx/random.h"
#include "mlx/transforms.h"
#include "mlx/version.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/packs/pack.h"
#include "mlx_kd/runtime/call/ops.h"
#include "mlx_kd/runtime/state/settings.h"
#include "mlx_kd/runtime/state/stats.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::runtime {

namespace mx = mlx::core;

// Every element of every output is KD_MARK; eps times 1e6 where that is 0.
inline std::string marking_source(const std::string& op, int outputs) {
  std::string source = R"(
#ifndef KD_DTYPE
#define KD_DTYPE 0
#endif
#ifndef KD_MARK
#define KD_MARK 1
#endif
#if KD_DTYPE == 0
typedef float T;
static T down(float x) { return x; }
#elif KD_DTYPE == 1
typedef _Float16 T;
static T down(float x) { return (T)x; }
#else
typedef unsigned short T;
static T down(float x) { unsigned bits; __builtin_memcpy(&bits, &x, 4); return (T)(bits >> 16); }
#endif
)";
  source += "extern \"C\" void mlx_kd_" + op +
            "(const void* const*, void* const* out, const long* dims, const double* params, long "
            "begin, long end) {\n"
            "  const float mark = KD_MARK ? KD_MARK : (float)(params[0] * 1e6);\n";
  for (int i = 0; i < outputs; ++i)
    source += "  for (long e = begin * dims[1]; e < end * dims[1]; ++e) ((T*)out[" +
              std::to_string(i) + "])[e] = down(mark);\n";
  return source + "}\n";
}

inline base::Json ports(size_t count) {
  base::Json list = base::Json::array();
  for (size_t i = 0; i < count; ++i) list.push_back({{"name", "port" + std::to_string(i)}});
  return list;
}

inline const spec::DeviceId& this_cpu() {
  static const spec::DeviceId id = devices::open_device("cpu")->id();
  return id;
}

// An entry of rmsnorm or rmsnorm_residual for this process's CPU whose kernel leaves `mark`.
inline packs::Entry marking_entry(const std::string& op, const spec::Dims& dims, int mark,
                                  const std::string& dtype = "float32") {
  packs::Entry entry;
  const size_t outputs = op == "rmsnorm_residual" ? 2 : 1;
  entry.key = {op, mx::version(), this_cpu().arch, this_cpu().name, dtype, dims};
  entry.candidate_id = op + "_" + std::to_string(mark);
  entry.func_name = "mlx_kd_" + op;
  entry.language = "cpp";
  entry.source = marking_source(op, static_cast<int>(outputs));
  entry.inputs_spec = ports(op == "rmsnorm_residual" ? 3 : 2);
  entry.outputs_spec = ports(outputs);
  entry.knobs = {{"KD_MARK", mark}, {"THREADS", 1}, {"GRAIN", 1}};
  entry.launch_params = {{"launch_kind", "cpu_rows"}, {"THREADS", 1}, {"GRAIN", 1}};
  entry.runtime_inputs = {{"eps", 1e-6}};
  entry.target = {{"isa", base::Json::array()}, {"cores", 1}};
  entry.protocol = "test";
  entry.metrics.kernel_us = 1;
  entry.metrics.latency_us = 2;
  entry.metrics.speedup_vs_ref = 3;
  entry.source_hash = packs::source_hash_of(entry);
  return entry;
}

// The kernel cache that the program was started with, "" if none was named.
inline const std::string named_objects = [] {
  const char* const given = std::getenv("MLX_KD_CACHE_DIR");
  return std::string(given ? given : "");
}();

// A test with a folder of its own and a kernel cache of this process's, pins off, all counts 0;
// nothing of it stays.
class Pinned : public testing::Test {
 protected:
  // `objects`: another kernel cache.
  explicit Pinned(const std::string& objects = "") {
    for (const char* name :
         {"MLX_KD_USE_DISCOVERED_KERNELS", "ZMLX_USE_DISCOVERED_KERNELS",
          "MLX_KD_DISCOVERED_KERNELS_PATH", "ZMLX_DISCOVERED_KERNELS_PATH", "MLX_KD_TRUST",
          "MLX_KD_WAIT_FOR_COMPILE", "MLX_KD_SHAPE_LOG", "MLX_KD_SHAPE_LOG_MODE",
          "MLX_KD_SHAPE_LOG_FLUSH_EVERY", "MLX_KD_SHAPE_LOG_MAX"})
      unsetenv(name);
    static const tests::TempDir own;  // the device keeps the first folder that it gets
    setenv("MLX_KD_CACHE_DIR", objects.empty() ? own.path().c_str() : objects.c_str(), 1);
    reset_settings();
    reset_stats();
  }
  ~Pinned() override {
    unsetenv("MLX_KD_SHAPE_LOG");
    reset_settings();
    unsetenv("MLX_KD_CACHE_DIR");
  }

  std::string write_pack(const std::vector<packs::Entry>& entries,
                         const std::string& name = "pins.json") {
    packs::Pack pack;
    pack.entries = entries;
    packs::write_pack(folder_ / name, pack);
    return folder_ / name;
  }
  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  void pin(const std::vector<packs::Entry>& entries) { enable(write_pack(entries)); }

  tests::TempDir folder_;
};

// The same for operators of the table, whose kernels take seconds to compile: `./kd test` names one
// cache for all tests. A program that runs other tests too keeps its own, since they damage
// objects.
class PinnedTable : public Pinned {
 protected:
  PinnedTable() : Pinned(runs_alone() ? named_objects : "") {}

 private:
  static bool runs_alone() {
    return testing::UnitTest::GetInstance()->test_suite_to_run_count() == 1;
  }
};

inline mx::array all_ones(const mx::Shape& shape, mx::Dtype dtype = mx::float32) {
  return mx::ones(shape, dtype);
}

// The first element.
inline float first(const mx::array& x) {
  return mx::take(mx::reshape(mx::astype(x, mx::float32), {-1}), mx::array(0)).item<float>();
}

inline bool same_bits(const mx::array& a, const mx::array& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         mx::array_equal(a, b, true).item<bool>();
}

// What a call that is refused says.
template <class Error = std::invalid_argument, class Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was refused";
}

inline void expect_part(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text << "\nlacks: " << part;
}

}  // namespace mlx_kd::runtime

// Kernels small enough to see through, and a cache of their own for each test.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "mlx_kd/devices/device.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::devices::cpu {

// out = a + b and twice = 2 (a + b), n elements in units of one; SCALE (source) multiplies both.
inline constexpr const char* kAddSource = R"(
#ifndef KD_DTYPE
#define KD_DTYPE 0
#endif
#ifndef SCALE
#define SCALE 1
#endif
#if KD_DTYPE == 0
typedef float T;
static float up(T x) { return x; }
static T down(float x) { return x; }
#elif KD_DTYPE == 1
typedef _Float16 T;
static float up(T x) { return (float)x; }
static T down(float x) { return (T)x; }
#else
typedef unsigned short T;
static float up(T x) { unsigned bits = (unsigned)x << 16; float y; __builtin_memcpy(&y, &bits, 4); return y; }
static T down(float x) { unsigned bits; __builtin_memcpy(&bits, &x, 4); return (T)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); }
#endif
extern "C" void mlx_kd_add(const void* const* in, void* const* out, const long*, const double* params, long begin, long end) {
  const T* a = (const T*)in[0];
  const T* b = (const T*)in[1];
  for (long i = begin; i < end; ++i) {
    const float sum = SCALE * (up(a[i]) + up(b[i])) + (float)params[0];
    ((T*)out[0])[i] = down(sum);
    ((T*)out[1])[i] = down(2 * sum);
  }
}
)";

inline spec::Candidate add_candidate(spec::Dtype dtype = spec::Dtype::float32, int64_t scale = 1) {
  spec::Candidate candidate;
  candidate.op_name = "add";
  candidate.variant = "elements";
  candidate.language = "cpp";
  candidate.dtype = dtype;
  candidate.knobs = {{"SCALE", scale}, {"THREADS", 1}};
  candidate.source = kAddSource;
  candidate.func_name = "mlx_kd_add";
  candidate.inputs_spec = {{{"name", "a"}}, {{"name", "b"}}};
  candidate.outputs_spec = {{{"name", "out"}}, {{"name", "twice"}}};
  candidate.template_params = candidate.knobs.json();
  candidate.launch_params = {{"launch_kind", "cpu_elements"}, {"THREADS", 1}};
  return candidate;
}

// One stage of `func_name` over n units.
inline spec::Stage units_stage(const std::string& func_name, int64_t n, int threads = 1,
                               int64_t grain = 1 << 20) {
  spec::Stage stage{func_name};
  stage.launch.grid[0] = n;
  stage.launch.group[0] = grain;
  stage.launch.threads = threads;
  return stage;
}

inline Call add_call(int64_t n, int threads = 1, int64_t grain = 1 << 20,
                     spec::Dtype dtype = spec::Dtype::float32) {
  Call call;
  call.dims = {{"n", n}};
  call.scalars = {0.0};
  call.stages = {units_stage("mlx_kd_add", n, threads, grain)};
  call.inputs = call.outputs = {{{n}, dtype}, {{n}, dtype}};
  return call;
}

// Sets environment variables for one scope.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) had_ = true, old_ = old;
    setenv(name, value.c_str(), 1);
  }
  ~Variable() { had_ ? setenv(name_, old_.c_str(), 1) : unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  bool had_ = false;
  std::string old_;
};

// A test with an empty cache folder.
class WithCache : public ::testing::Test {
 protected:
  const std::filesystem::path& folder() const { return folder_.path(); }

 private:
  tests::TempDir folder_;
  Variable variable_{"MLX_KD_CACHE_DIR", folder_.path()};
};

}  // namespace mlx_kd::devices::cpu

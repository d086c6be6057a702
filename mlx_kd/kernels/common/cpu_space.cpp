#include "mlx_kd/kernels/common/cpu_space.h"

#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"

namespace mlx_kd::kernels {
namespace {

std::string plain(std::string name) {
  std::erase_if(name, [](char c) { return c == '_' || c == '-'; });
  return name;
}

}  // namespace

bool has_isa(const spec::DeviceTraits& traits, const std::vector<std::string>& names) {
  return std::all_of(names.begin(), names.end(), [&](const std::string& wanted) {
    return std::any_of(traits.isa.begin(), traits.isa.end(),
                       [&](const std::string& isa) { return plain(isa) == plain(wanted); });
  });
}

bool has_dots(const spec::DeviceTraits& traits) {
  return has_isa(traits, {"avx512bf16", "avx512bw", "avx512dq", "avx512vl"});
}

bool has_matrices(spec::Dtype t, const spec::DeviceTraits& traits) {
  return t == spec::Dtype::bfloat16 && has_dots(traits) &&
         has_isa(traits, {"amxtile", "amxbf16", "avx512vbmi"});
}

bool is_x86(const spec::DeviceTraits& traits) {
  return std::any_of(traits.isa.begin(), traits.isa.end(), [](const std::string& isa) {
    return isa.starts_with("avx") || isa.starts_with("sse") || isa.starts_with("x86") ||
           isa == "f16c" || isa == "fma";
  });
}

spec::Knob vector_knob(const spec::DeviceTraits& traits) {
  std::vector<int64_t> values;
  for (int64_t bytes : {64, 32, 16})
    if (bytes <= traits.vector_bytes) values.push_back(bytes);
  if (values.empty()) values.push_back(16);
  return {"VEC", values, spec::KnobScale::log2, spec::KnobRole::source, "bytes of a vector"};
}

void add_rounding_knob(spec::Space& space, spec::Dtype dtype, const spec::DeviceTraits& traits) {
  if (dtype != spec::Dtype::bfloat16 || !has_isa(traits, {"avx512bf16", "avx512vl"})) return;
  space.knobs.push_back({"BF16",
                         {1, 0},
                         spec::KnobScale::choice,
                         spec::KnobRole::source,
                         "how bfloat16 is rounded",
                         {"instruction", "integers"}});
}

void add_stream_knob(spec::Space& space, const spec::DeviceTraits& traits,
                     std::vector<int64_t> values, std::vector<std::string> labels) {
  if (!is_x86(traits)) return;
  space.knobs.push_back({"STREAM", std::move(values), spec::KnobScale::choice,
                         spec::KnobRole::source, "outputs that bypass the caches",
                         std::move(labels)});
}

void add_thread_knobs(spec::Space& space, const spec::DeviceTraits& traits,
                      std::vector<int64_t> grains, const std::string& unit) {
  const int64_t cores = std::max(traits.cores, 1);
  std::vector<int64_t> threads = {cores};
  for (int64_t count = 1; count < cores; count *= 2) threads.push_back(count);
  const int64_t first = grains.front();
  space.knobs.push_back({"THREADS", threads, spec::KnobScale::log2, spec::KnobRole::launch,
                         "threads at most; one task needs one"});
  space.knobs.push_back({"GRAIN", std::move(grains), spec::KnobScale::log2, spec::KnobRole::launch,
                         unit + " a task"});
  space.constraints.push_back(
      {"GRAIN is " + std::to_string(first) + " where THREADS is 1: one thread has one task",
       {"THREADS", "GRAIN"},
       [first](const int64_t* v) { return v[0] > 1 || v[1] == first; }});
}

spec::Launch share_units(int64_t units, const spec::Setting& knobs) {
  const int64_t grain = knobs.at("GRAIN");
  const int64_t tasks = divide_up(units, grain);
  spec::Launch launch;
  launch.grid[0] = units;
  launch.group[0] = grain;
  launch.threads = static_cast<int>(std::clamp<int64_t>(tasks, 1, knobs.at("THREADS")));
  return launch;
}

}  // namespace mlx_kd::kernels

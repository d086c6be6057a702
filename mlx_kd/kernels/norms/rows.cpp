#include "mlx_kd/kernels/norms/rows.h"

#include <algorithm>

#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/divide_up.h"

namespace mlx_kd::kernels {
namespace {

using enum spec::KnobScale;
using enum spec::KnobRole;

constexpr int64_t kMostThreads = 1024;       // of a threadgroup
constexpr int64_t kGroupBytes = 32 << 10;    // threadgroup memory
constexpr int64_t kMostElementsAtOnce = 64;  // of a thread: more spills registers

spec::Constraint rests_unless(const std::string& knob, int64_t rest, const std::string& other,
                              const std::string& when, const std::function<bool(int64_t)>& varies) {
  return {knob + " matters only where " + other + " is " + when,
          {knob, other},
          [=](const int64_t* v) { return v[0] == rest || varies(v[1]); }};
}

void add_fitting_constraints(spec::Space& space, int64_t element_bytes) {
  space.constraints.push_back({"THREADS * ROWS <= 1024 threads of a threadgroup",
                               {"THREADS", "ROWS"},
                               [](const int64_t* v) { return v[0] * v[1] <= kMostThreads; }});
  space.constraints.push_back(
      {"UNROLL * VEC <= 64 elements at once", {"UNROLL", "VEC"}, [](const int64_t* v) {
         return v[0] * v[1] <= kMostElementsAtOnce;
       }});
  space.constraints.push_back(
      {"KEEP * VEC <= 64 elements at once", {"KEEP", "VEC"}, [](const int64_t* v) {
         return v[0] * v[1] <= kMostElementsAtOnce;
       }});
  space.constraints.push_back({"kept packs and the tree fit 32 KiB of threadgroup memory",
                               {"THREADS", "ROWS", "CACHE", "KEEP", "VEC", "REDUCE"},
                               [element_bytes](const int64_t* v) {
                                 const int64_t threads = v[0] * v[1];
                                 const int64_t kept = v[2] == 2 ? v[3] * v[4] * element_bytes : 0;
                                 const int64_t sums = v[5] == 2 ? threads * 4 : threads / 8;
                                 return threads * kept + sums <= kGroupBytes;
                               }});
}

void add_row_constraints(spec::Space& space) {
  const auto keeps = [](int64_t cache) { return cache != 0; };
  const auto reads_twice = [](int64_t cache) { return cache == 0; };
  space.constraints.push_back(rests_unless("KEEP", 1, "CACHE", "registers or shared", keeps));
  space.constraints.push_back(rests_unless("UNROLL", 1, "CACHE", "none", reads_twice));
  space.constraints.push_back(
      rests_unless("EARLY", 0, "CACHE", "registers", [](int64_t cache) { return cache == 1; }));
  space.constraints.push_back(
      {"a tree halves: THREADS is a power of two", {"REDUCE", "THREADS"}, [](const int64_t* v) {
         return v[0] != 2 || (v[1] & (v[1] - 1)) == 0;
       }});
  space.constraints.push_back({"one simdgroup a row has no second sum",
                               {"REDUCE", "THREADS"},
                               [](const int64_t* v) { return v[0] != 1 || v[1] > 32; }});
}

}  // namespace

spec::Space cpu_rows_space(spec::Dtype dtype, const spec::DeviceTraits& traits, bool again) {
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"ACC", {4, 1, 2, 8}, log2, source, "steps summed independently"},
                 {"UNROLL", {4, 1, 2, 8}, log2, source, "steps a turn of the scaling loop"},
                 {"ROWS", {1, 2, 4}, log2, source, "rows that share one reading of w"},
                 {"PREFETCH", {0, 512, 2048}, linear, source, "bytes ahead of the summing loop"},
                 {"AHEAD", {1, 0}, choice, source, "fetch next rows while scaling", {"yes", "no"}}};
  if (again)
    space.knobs.push_back(
        {"AGAIN", {0, 1}, choice, source, "sums in the scaling loop", {"kept", "again"}});
  add_rounding_knob(space, dtype, traits);
  if (again)
    add_stream_knob(space, traits, {0, 1, 2}, {"none", "y", "y and updated"});
  else
    add_stream_knob(space, traits, {0, 1}, {"none", "y"});
  if (is_x86(traits))
    space.knobs.push_back(
        {"RSQRT", {0, 1}, choice, source, "how 1/sqrt is found", {"divide", "newton"}});
  add_thread_knobs(space, traits, {16, 1, 4, 8, 32, 64}, "rows");
  space.constraints.push_back({"ROWS * ACC <= 16: more accumulators than registers",
                               {"ROWS", "ACC"},
                               [](const int64_t* v) { return v[0] * v[1] <= 16; }});
  return space;
}

spec::Launch launch_cpu_rows(const spec::Dims& dims, const spec::Setting& knobs) {
  return share_units(dims.at("rows"), knobs);
}

spec::Space metal_rows_space(spec::Dtype dtype, bool again) {
  spec::Space space;
  space.knobs = {
      pack_knob(),
      {"THREADS", {256, 32, 64, 128, 192, 384, 512, 768, 1024}, log2, source, "threads of a row"},
      {"ROWS", {1, 2, 4, 8}, log2, source, "rows of a threadgroup"},
      {"REDUCE",
       {0, 1, 2},
       choice,
       source,
       "how a row is summed",
       {"simd and a loop", "simd twice", "tree"}},
      {"CACHE",
       {0, 1, 2},
       choice,
       source,
       "the row between sum and scaling",
       {"read again", "registers", "threadgroup memory"}},
      {"KEEP", {1, 2, 4, 8}, log2, source, "packs of a thread that are cached"},
      {"EARLY", {0, 1}, choice, source, "weights are fetched", {"late", "before the sum"}},
      {"UNROLL", {1, 2, 4, 8}, log2, source, "packs read at once where nothing is cached"},
      fast_knob("how 1/sqrt is found")};
  add_fitting_constraints(space, spec::size_of(dtype));
  add_row_constraints(space);
  if (!again) return space;
  space.knobs.push_back(
      {"AGAIN", {0, 1}, choice, source, "sums that are not cached", {"read back", "added again"}});
  space.constraints.push_back(
      rests_unless("AGAIN", 0, "CACHE", "none", [](int64_t cache) { return cache == 0; }));
  return space;
}

spec::Launch launch_metal_rows(const spec::Dims& dims, const spec::Setting& knobs) {
  const int64_t rows = knobs.at("ROWS"), group = rows * knobs.at("THREADS");
  spec::Launch result;
  result.grid[0] = std::max<int64_t>(1, divide_up(dims.at("rows"), rows)) * group;
  result.group[0] = group;
  return result;
}

}  // namespace mlx_kd::kernels

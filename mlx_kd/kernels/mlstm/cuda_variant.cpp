#include "mlx_kd/kernels/mlstm/cuda_variant.h"

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/mlstm/cells.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::mlstm {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Setting;

// As in the source.
constexpr int64_t kFew = 64, kGroup = 128;                 // threads
constexpr int64_t kSide = 64, kRows = 64, kColumns = 128;  // of the memory; of h
constexpr int64_t kGateBytes = 32, kStepBytes = 28;

constexpr int64_t kWide = 106, kNarrow = 54;  // KiB of a group's arrays
// The kernels of 16 bits, in bfloat16: fragments.cu.h, scan.cu.h, rows16.cu.h, pairs16.cu.h.
constexpr int64_t kScanGroup = 256, kScanWide = 32,
                  kLongest = 128;  // threads; columns; DHQK, a chunk
constexpr int64_t kScanKiB = 111, kRows16KiB = 104, kPairs16KiB = 219;

spec::Knob shelf_knob(std::vector<int64_t> sizes) {
  return {"SHELF", std::move(sizes), spec::KnobScale::linear, spec::KnobRole::launch,
          "KiB of queries, keys and values of a group"};
}

// Where chunks are as long as the kernels of 16 bits have them.
spec::Constraint chunk_fits(int64_t shelf, int64_t chunk) {
  return {"CHUNK = " + std::to_string(chunk) + " where SHELF = " + std::to_string(shelf) +
              ": its chunks have " + std::to_string(kLongest) + " tokens",
          {"SHELF", "CHUNK"},
          [=](const int64_t* values) { return values[0] != shelf || values[1] == chunk; }};
}

// Shared memory of a group follows from the type, but for the choice that bfloat16 has.
spec::Space chunk_space(Dtype t, const spec::DeviceTraits&) {
  spec::Space space;
  std::vector<int64_t> shelves = {t == Dtype::float32 ? kWide : kNarrow};
  if (t == Dtype::bfloat16) shelves.insert(shelves.begin(), kRows16KiB);
  space.knobs = {shelf_knob(shelves),
                 {"CHUNK",
                  {128, 64, 256, 512},
                  spec::KnobScale::log2,
                  spec::KnobRole::launch,
                  "tokens between states that are kept"}};
  if (t == Dtype::bfloat16) space.constraints = {chunk_fits(kRows16KiB, kLongest)};
  return space;
}

bool is_in16(const Dims& dims, const Setting& knobs, int64_t shelf) {
  return knobs.at("SHELF") == shelf && dims.at("DHQK") <= kLongest;
}

spec::Stage groups_of(const std::string& function, int64_t threads, int64_t groups, int64_t rows,
                      int64_t chunk) {
  spec::Stage stage{function, {}, chunk};
  stage.launch.group = {threads, 1, 1};
  stage.launch.grid = {groups * threads, rows, 1};
  return stage;
}

int64_t tiles_of(const Dims& dims) {
  return divide_up(dims.at("DHQK"), kSide) * divide_up(dims.at("DHHV"), kSide);
}

int64_t scans_of(const Dims& dims) {
  return divide_up(dims.at("DHHV"), kScanWide);
}
int64_t pitch_of(const Dims& dims) {
  return divide_up(dims.at("DHHV"), 8) * 8;
}

spec::Stage scan_of(const std::string& function, const Dims& dims) {
  spec::Stage scan = groups_of(function, kScanGroup, dims.at("heads"), scans_of(dims), kLongest);
  scan.launch.shared_bytes = kScanKiB << 10;
  return scan;
}

// What chunks do to m, m before each, the gates.
std::vector<spec::Stage> stages_of_gates(const std::string& name, int64_t heads, int64_t chunks,
                                         int64_t chunk) {
  return {groups_of(name + "_steps", kFew, divide_up(chunks, kFew), 1, chunk),
          groups_of(name + "_course", kFew, divide_up(heads, kFew), 1, chunk),
          groups_of(name + "_gates", kFew, divide_up(chunks, kFew), 1, chunk)};
}

std::vector<spec::Stage> stages_of_forward16(const std::string& name, const Dims& dims) {
  const int64_t heads = dims.at("heads"), chunks = heads * divide_up(dims.at("S"), kLongest);
  std::vector<spec::Stage> stages = stages_of_gates(name, heads, chunks, kLongest);
  stages.push_back(scan_of(name + "_scan", dims));
  stages.push_back(groups_of(name + "_rows16", kScanGroup, chunks,
                             divide_up(dims.at("DHHV"), kColumns), kLongest));
  stages.back().launch.shared_bytes = kRows16KiB << 10;
  return stages;
}

// What chunks do to m, m before each, the gates, the memory before each chunk, h.
std::vector<spec::Stage> stages_of_forward(const std::string& name, const Dims& dims,
                                           const Setting& knobs) {
  if (is_in16(dims, knobs, kRows16KiB)) return stages_of_forward16(name, dims);
  const int64_t heads = dims.at("heads"), chunk = chunk_of(dims, knobs.at("CHUNK"));
  const int64_t hv = dims.at("DHHV"), chunks = heads * divide_up(dims.at("S"), chunk);
  spec::Stage rows =
      groups_of(name, kGroup, chunks * divide_up(chunk, kRows), divide_up(hv, kColumns), chunk);
  rows.launch.shared_bytes = (knobs.at("SHELF") == kRows16KiB ? kNarrow : knobs.at("SHELF")) << 10;
  std::vector<spec::Stage> stages = stages_of_gates(name, heads, chunks, chunk);
  stages.push_back(groups_of(name + "_states", kGroup, heads, tiles_of(dims), chunk));
  stages.push_back(rows);
  return stages;
}

std::vector<int64_t> scratch_of_forward(Dtype, const Dims& dims, const Setting& knobs) {
  const int64_t heads = dims.at("heads"), s = dims.at("S"), qk = dims.at("DHQK");
  const bool in16 = is_in16(dims, knobs, kRows16KiB);
  const int64_t chunk = in16 ? kLongest : chunk_of(dims, knobs.at("CHUNK"));
  const int64_t chunks = heads * divide_up(s, chunk), hv = in16 ? pitch_of(dims) : dims.at("DHHV");
  return {heads * s * (kGateBytes + 4), 4 * chunks * qk * hv, 4 * (chunks * qk + heads),
          chunks * kStepBytes};
}

// ---- backward: chunks of at most kRows tokens

constexpr int64_t kNumberBytes = 32, kTurnBytes = 16;

// What a stage of backward is a group of: kGroup or kScanGroup threads take a chunk, others one
// each.
spec::Stage by_chunk(const std::string& function, int64_t threads, int64_t chunks, int64_t chunk) {
  return groups_of(function, threads, threads == kFew ? divide_up(chunks, kFew) : chunks, 1, chunk);
}

// Products of the gradient: 1 / (N + eps) and dq, the memory's cotangents, dk and dv.
std::vector<spec::Stage> products16(const std::string& name, const Dims& dims, int64_t chunks) {
  std::vector<spec::Stage> stages = {
      scan_of(name + "_scan", dims), by_chunk(name + "_queries", kScanGroup, chunks, kLongest),
      scan_of(name + "_scan_back", dims), by_chunk(name + "_keys", kScanGroup, chunks, kLongest)};
  stages[1].launch.shared_bytes = stages[3].launch.shared_bytes = kPairs16KiB << 10;
  return stages;
}
std::vector<spec::Stage> products_of_floats(const std::string& name, const Dims& dims,
                                            int64_t chunks, int64_t chunk) {
  const auto by_tile = [&](const char* part) {
    return groups_of(name + part, kGroup, dims.at("heads"), tiles_of(dims), chunk);
  };
  return {by_tile("_states"), by_chunk(name + "_rows", kGroup, chunks, chunk),
          by_tile("_cotangents"), by_chunk(name + "_columns", kGroup, chunks, chunk)};
}

// As forward; the products; what m hands back, di and df.
std::vector<spec::Stage> stages_of_backward(const std::string& name, const Dims& dims,
                                            const Setting& knobs) {
  const bool in16 = is_in16(dims, knobs, kPairs16KiB);
  const int64_t heads = dims.at("heads"), chunk = in16 ? kLongest : knobs.at("CHUNK");
  const int64_t chunks = heads * divide_up(dims.at("S"), chunk);
  std::vector<spec::Stage> stages = stages_of_gates(name, heads, chunks, chunk);
  for (const spec::Stage& product :
       in16 ? products16(name, dims, chunks) : products_of_floats(name, dims, chunks, chunk))
    stages.push_back(product);
  stages.push_back(by_chunk(name + "_turns", kFew, chunks, chunk));
  stages.push_back(groups_of(name + "_carry", kFew, divide_up(heads, kFew), 1, chunk));
  stages.push_back(by_chunk(name, kFew, chunks, chunk));
  return stages;
}

// The kernels of 16 bits put the memory's cotangents in its place, and keep no rows of dq.
std::vector<int64_t> scratch_of_backward(Dtype, const Dims& dims, const Setting& knobs) {
  const bool in16 = is_in16(dims, knobs, kPairs16KiB);
  const int64_t heads = dims.at("heads"), tokens = heads * dims.at("S"), qk = dims.at("DHQK");
  const int64_t chunks = heads * divide_up(dims.at("S"), in16 ? kLongest : knobs.at("CHUNK"));
  const int64_t rows = in16 ? 0 : 4 * qk, parts = in16 ? scans_of(dims) : tiles_of(dims);
  const int64_t memory = in16 ? 4 * qk * pitch_of(dims) : 8 * qk * dims.at("DHHV");
  return {tokens * (kGateBytes + 4 + kNumberBytes + rows), chunks * memory,
          4 * (2 * chunks * qk + heads + chunks * parts) + chunks * kTurnBytes,
          chunks * kStepBytes};
}

spec::Space backward_space(Dtype t, const spec::DeviceTraits&) {
  spec::Space space;
  constexpr int64_t kFloats = 36;  // static, in the source
  std::vector<int64_t> shelves = {kFloats};
  if (t == Dtype::bfloat16) shelves.insert(shelves.begin(), kPairs16KiB);
  space.knobs = {shelf_knob(shelves),
                 {"CHUNK",
                  {kRows, kRows / 2},
                  spec::KnobScale::log2,
                  spec::KnobRole::launch,
                  "tokens between states that are kept"}};
  if (t == Dtype::bfloat16) space.constraints = {chunk_fits(kPairs16KiB, kRows)};
  return space;
}

using Stages = std::vector<spec::Stage>(const std::string&, const Dims&, const Setting&);

spec::Variant variant_on_cuda(const std::string& op, const std::string& source, Stages* stages) {
  spec::Variant variant;
  variant.name = "chunks";
  variant.language = "cuda";
  variant.source = kernel_source(source);
  variant.func_name = "mlx_kd_" + op;
  variant.launch_kind = "cuda_arguments";
  variant.stages = [name = variant.func_name, stages](const Dims& dims, const Setting& knobs) {
    return stages(name, dims, knobs);
  };
  return variant;
}

}  // namespace

spec::Variant forward_on_cuda(const std::string& op, const std::string& source) {
  spec::Variant variant = variant_on_cuda(op, source, stages_of_forward);
  variant.space = chunk_space;
  variant.scratch = scratch_of_forward;
  return variant;
}

spec::Variant backward_on_cuda(const std::string& op, const std::string& source) {
  spec::Variant variant = variant_on_cuda(op, source, stages_of_backward);
  variant.space = backward_space;
  variant.scratch = scratch_of_backward;
  return variant;
}

}  // namespace mlx_kd::kernels::mlstm

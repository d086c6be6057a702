#include "mlx_kd/kernels/vectors/cuda_variant.h"

#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::vectors {
namespace {

using spec::Dims;
using spec::Dtype;

// As in scan.cu.h, candidates.cu.h, lists.cu.h and ivfpq_topk.cu.
constexpr int64_t kTileRows = 64, kColumns = 128, kBoxColumns = 32,
                  kTileBytes = kTileRows * 4 * kColumns;
constexpr int64_t kScanThreads = 288, kRowsThreads = 256, kSortThreads = 1024;
constexpr int64_t kMostShared = 225 << 10, kMostRing = 3, kGatheredBytes = 2 * 512 * 16;
constexpr int64_t kCandidateBytes = 16, kPlaceBytes = 8, kBoundsOfTile = 4;

constexpr int64_t kSampled = 0, kStored = 1, kFound = 2, kMostFound = 32 * 16;  // tiles

constexpr int64_t kLeastSamples = 4096;   // rows
constexpr int64_t kSamplesOfResult = 64;  // rows for each of the k results
constexpr int64_t kMostPlaces = 1 << 16;  // of a query, that one block merges
constexpr int64_t kRowsBlocks = 132, kRowsOfPart = 512;

// How a call is cut. Without tensor cores, queries is 0.
struct FlatPlan {
  int64_t queries = 0, ring = 0;      // of a block; tiles ahead of each of its groups
  int64_t samples = 0, capacity = 0;  // tiles; candidates of a query
  int64_t parts = 1;                  // of the rows
  bool finds_limits = false;          // in each block of the scan

  bool takes_every_row() const { return samples == 0; }
};

int64_t image_bytes(int64_t queries, int64_t width) {
  return divide_up(width, kColumns) * queries * 4 * kColumns;
}

int64_t shared_bytes(int64_t queries, int64_t width, int64_t ring) {
  return image_bytes(queries, width) + 2 * ring * kTileBytes + kGatheredBytes + queries * 8 +
         32 * ring + 8;
}

int64_t ring_with(int64_t queries, int64_t width) {
  int64_t ring = kMostRing;
  while (ring > 0 && shared_bytes(queries, width, ring) > kMostShared) --ring;
  return ring;
}

void plan_scan(FlatPlan& plan, const Dims& dims, int64_t share) {
  const int64_t width = dims.at("D"), n = dims.at("N"), k = dims.at("k");
  const bool many = dims.at("M") > 8 && ring_with(64, width) >= 2;
  plan.ring = ring_with(many ? 64 : 8, width);
  if (plan.ring == 0) return;
  plan.queries = many ? 64 : 8;
  // Candidates of few queries cost little.
  const int64_t rows =
      std::max({n / (many ? share : 2 * share), kSamplesOfResult * k, kLeastSamples});
  const int64_t tiles = divide_up(rows, kTileRows);
  // As many as are expected in rows of any order, and room for rows in an order of their own.
  const int64_t room = 5 * divide_up(n * k, rows) + 1024;
  const bool every = 2 * rows >= n || room >= n;
  plan.samples = every ? 0 : tiles;
  plan.capacity = every ? n : room;
  plan.finds_limits = !every && !many && tiles <= kMostFound && tiles >= 16 * k;
}

FlatPlan plan_of(const Dims& dims, const spec::Setting& knobs) {
  FlatPlan plan;
  if (knobs.at("TENSOR")) plan_scan(plan, dims, knobs.at("SAMPLE"));
  const int64_t most = std::min(kMostPlaces / dims.at("k"), divide_up(dims.at("N"), kRowsOfPart));
  plan.parts = std::clamp<int64_t>(kRowsBlocks / dims.at("M"), 1, most);
  return plan;
}

spec::Stage stage_by_query(const std::string& func_name, int64_t queries, int64_t threads,
                           int64_t index) {
  spec::Stage stage{func_name, {}, index};
  stage.launch.group[0] = threads;
  stage.launch.grid[0] = queries * threads;
  return stage;
}

// Rows of whole 16 bytes; others are not read by it, and it is of scratch memory.
spec::TensorMap map_of_base(const Dims& dims) {
  using enum spec::TensorMap::Array;
  const int64_t width = dims.at("D");
  if (width % 4 != 0) return {scratch, 2, 4, {kBoxColumns, 1}, kBoxColumns, {kBoxColumns, 1}, 128};
  return {input, 1, 4, {width, dims.at("N")}, width, {kBoxColumns, kTileRows}, 128};
}

spec::Stage stage_of_tiles(const std::string& func_name, const FlatPlan& plan, const Dims& dims,
                           int64_t limits, int64_t blocks) {
  const int64_t tiles = limits == kSampled ? plan.samples : divide_up(dims.at("N"), kTileRows);
  const int64_t of_queries = divide_up(dims.at("M"), plan.queries);
  spec::Stage stage{
      func_name, {}, plan.capacity << 32 | plan.samples << 6 | limits << 4 | plan.ring};
  stage.launch.group[0] = kScanThreads;
  const int64_t share = std::clamp<int64_t>(blocks / of_queries, 1, tiles);
  stage.launch.grid = {share * kScanThreads, of_queries, 1};
  stage.tensor_maps = {map_of_base(dims)};
  stage.launch.shared_bytes = shared_bytes(plan.queries, dims.at("D"), plan.ring);
  return stage;
}

std::vector<spec::Stage> flat_stages(const std::string& name, const Dims& dims,
                                     const spec::Setting& knobs) {
  const FlatPlan plan = plan_of(dims, knobs);
  const int64_t m = dims.at("M"), blocks = knobs.at("BLOCKS");
  const std::string of_queries = std::to_string(plan.queries);
  std::vector<spec::Stage> stages;
  if (plan.queries) {
    if (!plan.takes_every_row()) {
      stages.push_back(
          stage_of_tiles(name + "_samples" + of_queries, plan, dims, kSampled, blocks));
      if (!plan.finds_limits)
        stages.push_back(stage_by_query(name + "_limits", m, kRowsThreads, plan.samples));
    }
    stages.push_back(stage_of_tiles(name + "_scan" + of_queries, plan, dims,
                                    plan.finds_limits ? kFound : kStored, blocks));
  } else {
    stages.push_back(stage_by_query(name + "_rows", m, kRowsThreads, 0));
    stages.back().launch.grid[1] = plan.parts;
  }
  stages.push_back(stage_by_query(name, m, kSortThreads, plan.parts << 32 | plan.capacity));
  if (plan.queries && !plan.takes_every_row()) stages.back().launch.grid[1] = plan.parts;
  return stages;
}

std::vector<int64_t> flat_scratch(const Dims& dims, const spec::Setting& knobs) {
  const FlatPlan plan = plan_of(dims, knobs);
  const int64_t m = dims.at("M");
  const int64_t places = plan.takes_every_row() && plan.queries ? 0 : m * plan.parts * dims.at("k");
  return {12 * m, std::max<int64_t>(16, places * kPlaceBytes),
          std::max<int64_t>(16, m * plan.capacity * kCandidateBytes),
          std::max<int64_t>(16, m * plan.samples * kBoundsOfTile * 4)};
}

spec::Space flat_space(Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {
      {"TENSOR", {1, 0}, choice, launch, "rows are chosen on", {"tensor cores", "ordinary units"}},
      {"SAMPLE", {32, 64, 16, 128}, log2, launch, "the share of rows that are samples"},
      {"BLOCKS", {132, 114, 78}, linear, launch, "blocks that share the rows"}};
  space.constraints = {{"without tensor cores nothing else counts",
                        {"TENSOR", "SAMPLE", "BLOCKS"},
                        [](const int64_t* v) { return v[0] == 1 || (v[1] == 32 && v[2] == 132); }}};
  return space;
}

// --- inverted lists ---------------------------------------------------------------------------

constexpr int64_t kListThreads = 256, kPrepareThreads = 1024, kFinishThreads = 512;
constexpr int64_t kMostPrepared = 1 << 14;  // pairs, and lists, that one block orders
constexpr int64_t kMostListParts = 64, kMostGrid = 4096;
constexpr int64_t kCodes = 256, kCodeThreads = 128;

int64_t list_capacity(const Dims& dims) {
  return std::min(dims.at("N"), 2048 + 64 * dims.at("k"));
}

int64_t list_parts(const Dims& dims) {
  const int64_t most = std::min(kMostPlaces / dims.at("k"), kMostListParts);
  return std::clamp<int64_t>(kRowsBlocks / dims.at("M"), 1, most);
}

spec::Stage stage_of_blocks(const std::string& func_name, int64_t units) {
  return stage_by_query(func_name,
                        std::clamp<int64_t>(divide_up(units, kListThreads), 1, kMostGrid),
                        kListThreads, 0);
}

std::vector<spec::Stage> list_stages(const std::string& name, const Dims& dims,
                                     const spec::Setting& knobs) {
  const int64_t m = dims.at("M"), pairs = m * dims.at("P"), lists = dims.at("L");
  std::vector<spec::Stage> stages;
  if (std::max(pairs, lists) <= kMostPrepared) {
    stages.push_back(stage_by_query(name + "_prepare", 1, kPrepareThreads, 0));
  } else {
    stages.push_back(stage_of_blocks(name + "_begin", std::max(m, lists + 1)));
    stages.push_back(stage_of_blocks(name + "_count", pairs));
    stages.push_back(stage_by_query(name + "_cut", 1, kPrepareThreads, 0));
    stages.push_back(stage_of_blocks(name + "_order", pairs));
  }
  const bool of_codes = dims.has("S");
  stages.push_back(stage_by_query(name + "_items", knobs.at("BLOCKS"),
                                  of_codes ? kCodeThreads : kListThreads, list_capacity(dims)));
  if (of_codes)  // a table, its query, and a number for each part
    stages.back().launch.shared_bytes = 4 * (dims.at("S") * (kCodes + 1) + dims.at("D"));
  stages.push_back(stage_by_query(name, m, kFinishThreads, list_capacity(dims)));
  stages.back().launch.grid[1] = list_parts(dims);
  return stages;
}

std::vector<int64_t> list_scratch(const Dims& dims) {
  const int64_t m = dims.at("M");
  return {12 * m, m * list_parts(dims) * dims.at("k") * kPlaceBytes,
          m * list_capacity(dims) * kCandidateBytes,
          4 * (4 * (dims.at("L") + 1) + m * dims.at("P"))};
}

spec::Variant variant_of(const std::string& op, const char* name) {
  spec::Variant variant;
  variant.name = name;
  variant.language = "cuda";
  variant.source = kernel_source("vectors/" + op + "/" + op + ".cu");
  variant.func_name = "mlx_kd_" + op;
  variant.launch_kind = "cuda_arguments";
  return variant;
}

}  // namespace

spec::Variant lists_in_cuda(const std::string& op, const std::vector<int64_t>& resident) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Variant variant = variant_of(op, "items");
  variant.space = [resident](Dtype, const spec::DeviceTraits&) {
    const int64_t all = kRowsBlocks * resident.front();
    spec::Space space;
    space.knobs = {
        {"RESIDENT", resident, linear, source,
         "blocks of items for which a multiprocessor has room"},
        {"BLOCKS", {all, all * 2 / 3, 2 * all}, linear, launch, "blocks that share the items"}};
    return space;
  };
  variant.stages = [name = variant.func_name](const Dims& dims, const spec::Setting& knobs) {
    return list_stages(name, dims, knobs);
  };
  variant.scratch = [](Dtype, const Dims& dims, const spec::Setting&) {
    return list_scratch(dims);
  };
  return variant;
}

spec::Variant flat_in_cuda(const std::string& op) {
  spec::Variant variant = variant_of(op, "bounds");
  variant.space = flat_space;
  variant.stages = [name = variant.func_name](const Dims& dims, const spec::Setting& knobs) {
    return flat_stages(name, dims, knobs);
  };
  variant.scratch = [](Dtype, const Dims& dims, const spec::Setting& knobs) {
    return flat_scratch(dims, knobs);
  };
  return variant;
}

}  // namespace mlx_kd::kernels::vectors

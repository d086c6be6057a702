#include "mlx_kd/kernels/vectors/lists.h"

#include <algorithm>
#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/vectors/flat.h"

namespace mlx_kd::kernels::vectors {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;

constexpr int64_t kMostPairs = int64_t(1) << 31;
constexpr double kLeastShared = 1 << 19;              // products
constexpr int64_t kBlockFields = 3, kFieldBytes = 8;  // as in probes.cpu.h

int64_t pairs_of(const Dims& dims) {
  return dims.at("M") * dims.at("P");
}

int64_t queries_of_block(const Dims& dims, const spec::Setting& knobs) {
  return block_queries(dims.at("D"), knobs.at("BLOCK"));
}

// Blocks of a call at most.
int64_t most_blocks(const Dims& dims, const spec::Setting& knobs) {
  return pairs_of(dims) / queries_of_block(dims, knobs) + std::min(pairs_of(dims), dims.at("L"));
}

// About as many products as the lists of a call take the time of.
double work_of(const Dims& dims, const spec::Setting& knobs) {
  const auto number = [&](const char* name) { return static_cast<double>(dims.at(name)); };
  const double width = number("D"), vectors = number("N") / number("L");
  if (!dims.has("S")) return static_cast<double>(pairs_of(dims)) * vectors * width;
  const double look_up = knobs.has("BYTES") && knobs.at("BYTES") == 1 ? 1.0 / 16 : 2;
  const double table = 128 * width;  // two of its products at a time
  return static_cast<double>(pairs_of(dims)) * (table + vectors * number("S") * look_up);
}

// Threads are woken for the lists of a call, or one has them all: that is sooner done than waking.
spec::Launch share_lists(const Dims& dims, const spec::Setting& knobs) {
  spec::Launch launch = share_units(most_blocks(dims, knobs), knobs);
  if (work_of(dims, knobs) < kLeastShared) launch.threads = 1;
  return launch;
}

}  // namespace

void check_pairs(const std::string& op, const Dims& dims) {
  if (dims.at("inner") > 1)
    base::misuse("kernels",
                 op + ": inner is " + std::to_string(dims.at("inner")) + ": give 0 or 1");
  for (const char* name : {"M", "N", "P", "L"})
    if (dims.at(name) >= kMostPairs)
      base::misuse("kernels", op + ": " + name + " is " + std::to_string(dims.at(name)) +
                                  ": give less than 2147483648");
  if (pairs_of(dims) >= kMostPairs)
    base::misuse("kernels", op + ": " + std::to_string(dims.at("M")) + " queries with " +
                                std::to_string(dims.at("P")) +
                                " probes each: give fewer than 2147483648 of both together");
}

void read_lists(const std::string& op, std::span<const spec::ArrayView> in, size_t probes,
                std::span<int64_t> dims) {
  const auto refuse = [&](const std::string& name, size_t i, const std::string& wanted) {
    throw std::invalid_argument("[" + op + "] " + name + " has shape " + shape_text(in[i].shape) +
                                ": give " + wanted);
  };
  if (in[0].shape.size() != 2) refuse("queries", 0, "(M, D)");
  if (in[probes].shape.size() != 2 || in[probes].shape[0] != in[0].shape[0])
    refuse("probes", probes, "(" + std::to_string(in[0].shape[0]) + ", P)");
  if (in[probes + 1].shape.size() != 1 || in[probes + 1].shape[0] < 2)
    refuse("offsets", probes + 1, "(L + 1), of at least one list");
  dims[0] = in[0].shape[0];
}

void fill_lists(const spec::FillRequest& request, size_t probes) {
  const Dims& dims = request.dims;
  base::Random random(request.seed * 31 + static_cast<uint64_t>(request.distribution));
  const int64_t lists = dims.at("L"), n = dims.at("N");
  auto* probed = static_cast<int64_t*>(request.inputs[probes]);
  for (int64_t i = 0; i < dims.at("M"); ++i) {
    const auto first = static_cast<int64_t>(random.below(static_cast<uint64_t>(lists)));
    for (int64_t p = 0; p < dims.at("P"); ++p)
      *probed++ = p >= lists || (p > 0 && random.below(8) == 0) ? -1 : (first + p) % lists;
  }
  auto* offsets = static_cast<int64_t*>(request.inputs[probes + 1]);
  offsets[0] = 0, offsets[lists] = n;
  for (int64_t i = 1; i < lists; ++i)
    offsets[i] = i % 5 == 3 ? offsets[i - 1] : std::max(offsets[i - 1], n * i / lists);
  auto* ids = static_cast<int64_t*>(request.inputs[probes + 2]);
  for (int64_t i = 0; i < n; ++i) ids[i] = 3 * i + 7;
  for (int64_t i = n - 1; i > 0; --i)
    std::swap(ids[i], ids[static_cast<int64_t>(random.below(static_cast<uint64_t>(i + 1)))]);
}

std::vector<spec::Residual> lists_residuals(
    const spec::JudgedCase& judged, size_t probes, Metric metric,
    const std::function<Distance64(int64_t, int64_t, int64_t)>& distance) {
  const int64_t each = judged.dims.at("P"), k = judged.dims.at("k"), n = judged.dims.at("N");
  const auto* offsets = static_cast<const int64_t*>(judged.inputs[probes + 1]);
  const auto* ids = static_cast<const int64_t*>(judged.inputs[probes + 2]);
  std::vector<int64_t> list_of(static_cast<size_t>(n));
  for (int64_t i = 0; i < judged.dims.at("L"); ++i)
    std::fill(list_of.begin() + offsets[i], list_of.begin() + offsets[i + 1], i);
  Ratios ratios;
  for (int64_t i = 0; i < judged.dims.at("M"); ++i) {
    Answer answer{[&](int64_t row) { return distance(i, list_of[static_cast<size_t>(row)], row); },
                  metric,
                  {},
                  static_cast<const float*>(judged.outputs[0]) + i * k,
                  static_cast<const int64_t*>(judged.outputs[1]) + i * k,
                  ids,
                  k};
    const auto* lists = static_cast<const int64_t*>(judged.inputs[probes]) + i * each;
    for (int64_t p = 0; p < each; ++p)
      for (int64_t row = lists[p] < 0 ? 0 : offsets[lists[p]];
           lists[p] >= 0 && row < offsets[lists[p] + 1]; ++row)
        answer.rows.push_back(row);
    ratios.take(ratios_of(answer));
  }
  return residuals_of(ratios);
}

std::vector<spec::Port> list_ports(const std::vector<spec::Port>& vectors) {
  std::vector<spec::Port> ports = {{"queries",
                                    [](const Dims& d) {
                                      return Shape{d.at("M"), d.at("D")};
                                    },
                                    Dtype::float32}};
  ports.insert(ports.end(), vectors.begin(), vectors.end());
  ports.push_back({"probes",
                   [](const Dims& d) {
                     return Shape{d.at("M"), d.at("P")};
                   },
                   Dtype::int64});
  ports.push_back({"offsets", [](const Dims& d) { return Shape{d.at("L") + 1}; }, Dtype::int64});
  ports.push_back({"labels", [](const Dims& d) { return Shape{d.at("N")}; }, Dtype::int64});
  return ports;
}

Metric metric_of(const Dims& dims) {
  return dims.at("inner") ? Metric::inner : Metric::l2;
}

std::vector<spec::Port> neighbour_ports() {
  const auto by_query = [](const Dims& dims) { return Shape{dims.at("M"), dims.at("k")}; };
  return {{"distances", by_query, Dtype::float32, spec::Judge::residuals},
          {"ids", by_query, Dtype::int64, spec::Judge::residuals}};
}

spec::Variant lists_variant(const std::string& op) {
  spec::Variant variant;
  variant.name = "lists";
  variant.language = "cpp";
  variant.source = kernel_source("vectors/" + op + "/" + op + ".cpu.cpp");
  variant.func_name = "mlx_kd_" + op;
  variant.launch_kind = "cpp_arguments";
  variant.stages = [function = variant.func_name](const Dims& dims, const spec::Setting& knobs) {
    const int64_t index = queries_of_block(dims, knobs);
    return std::vector<spec::Stage>{{function + "_order", spec::Launch{}, index},
                                    {function, share_lists(dims, knobs), index},
                                    {function + "_merge", share_units(dims.at("M"), knobs), index}};
  };
  variant.scratch = [](Dtype, const Dims& dims, const spec::Setting& knobs) {
    const int64_t pairs = pairs_of(dims), entries = pairs * dims.at("k");
    const int64_t fields = 1 + most_blocks(dims, knobs) * kBlockFields + dims.at("L") + 1;
    const int64_t limits = dims.at("M") * 4;
    return std::vector<int64_t>{entries * 4, entries * 4, pairs * 4, fields * kFieldBytes + limits};
  };
  return variant;
}

}  // namespace mlx_kd::kernels::vectors

#include "mlx_kd/kernels/vectors/flat.h"

#include <mlx/ops.h>

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/vectors/cuda_variant.h"
#include "mlx_kd/kernels/vectors/lists.h"

namespace mlx_kd::kernels::vectors {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;
using spec::Shape;
using enum spec::KnobScale;
using enum spec::KnobRole;

constexpr int64_t kPackedFloats = 32768, kTile = 12;  // as in nearest.cpu.h, of the widest vectors
constexpr int64_t kLeastRows = 1024;                  // of a part, of which each query has a heap
constexpr int64_t kEntryBytes = 4;                    // of a key, and of a row

// How the work of a call is cut.
struct Cut {
  int64_t queries, blocks, parts;
};
Cut cut_of(const Dims& dims, const spec::Setting& knobs) {
  const int64_t m = dims.at("M"), threads = knobs.at("THREADS");
  const int64_t most = block_queries(dims.at("D"), knobs.at("BLOCK"));
  const int64_t blocks = divide_up(m, most);
  const int64_t wanted = threads == 1 ? 1 : divide_up(threads * knobs.at("PARTS"), blocks);
  const int64_t parts = std::clamp<int64_t>(dims.at("N") / kLeastRows, 1, wanted);
  return {most, blocks, parts};
}

std::vector<int64_t> cpu_scratch(Dtype, const Dims& dims, const spec::Setting& knobs) {
  return std::vector<int64_t>(
      2, dims.at("M") * cut_of(dims, knobs).parts * dims.at("k") * kEntryBytes);
}

// With the whole matrix of distances, as one writes it with MLX.
spec::Op::Arrays composition(const spec::Op::Arrays& in, int k, Metric metric,
                             const mx::Stream& s) {
  const mx::array& q = in[0];
  const mx::array& x = in[1];
  const int most = std::min(k, x.shape(0));
  const mx::array products = mx::matmul(q, mx::transpose(x, s), s);
  const mx::array norms = mx::sum(mx::square(x, s), -1, s);
  const mx::array keys = metric == Metric::inner
                             ? mx::negative(products, s)
                             : mx::subtract(norms, mx::multiply(mx::array(2.0f), products, s), s);
  const mx::array near =
      mx::slice(mx::argpartition(keys, most - 1, -1, s), {0, 0}, {q.shape(0), most}, s);
  const mx::array of_near = mx::take_along_axis(keys, near, -1, s);
  const mx::array order = mx::argsort(of_near, -1, s);
  const mx::array found = mx::take_along_axis(of_near, order, -1, s);
  const mx::array ids = mx::astype(mx::take_along_axis(near, order, -1, s), mx::int64, s);
  if (metric == Metric::inner) return {mx::negative(found, s), ids};
  return {mx::add(found, mx::sum(mx::square(q, s), -1, true, s), s), ids};
}

Dims size_of(int64_t m, int64_t n, int64_t width, int64_t k) {
  return {{"M", m}, {"N", n}, {"D", width}, {"k", k}};
}

spec::Variant cpu_variant(const std::string& name) {
  spec::Variant variant;
  variant.name = "parts";
  variant.language = "cpp";
  variant.source = kernel_source("vectors/" + name + "/" + name + ".cpu.cpp");
  variant.func_name = "mlx_kd_" + name;
  variant.launch_kind = "cpp_arguments";
  variant.space = cpu_space;
  variant.stages = [function = variant.func_name](const Dims& dims, const spec::Setting& knobs) {
    const Cut cut = cut_of(dims, knobs);
    const int64_t index = cut.queries << 32 | cut.parts;
    return std::vector<spec::Stage>{{function, share_units(cut.blocks * cut.parts, knobs), index},
                                    {function + "_merge", share_units(dims.at("M"), knobs), index}};
  };
  variant.scratch = cpu_scratch;
  return variant;
}

}  // namespace

int64_t block_queries(int64_t width, int64_t most) {
  const int64_t fit = kPackedFloats / width / kTile * kTile;
  return fit == 0 ? 4 : std::min(fit, most);
}

void check_neighbours(const std::string& op, const Dims& dims) {
  if (dims.at("k") < 1 || dims.at("k") > kMostNeighbours)
    base::misuse("kernels", op + ": k is " + std::to_string(dims.at("k")) + ": give 1 to 1024");
}

spec::Space cpu_space(Dtype, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {
      vector_knob(traits),
      {"FEW", {4, 1, 2, 3}, linear, source, "queries that take rows as they are, at most"},
      {"PREFETCH", {16, 0, 4, 8, 32}, linear, source, "rows ahead that are fetched for them"},
      {"BLOCK", {252, 48, 96}, log2, launch, "queries of a block, at most"},
      {"PARTS", {4, 1, 2, 8}, log2, launch, "parts of the rows per thread, with one block"}};
  add_thread_knobs(space, traits, {1, 2}, "units");
  space.constraints.push_back({"PARTS is 4 where THREADS is 1: there is one part",
                               {"THREADS", "PARTS"},
                               [](const int64_t* v) { return v[0] > 1 || v[1] == 4; }});
  return space;
}

namespace {

std::vector<spec::Port> flat_inputs() {
  return {{"queries",
           [](const Dims& dims) {
             return Shape{dims.at("M"), dims.at("D")};
           },
           Dtype::float32},
          {"base",
           [](const Dims& dims) {
             return Shape{dims.at("N"), dims.at("D")};
           },
           Dtype::float32}};
}

std::vector<spec::Suite> flat_suites() {
  return {{"hundred_thousand", {size_of(1, 100000, 128, 10), size_of(64, 100000, 128, 10)}},
          {"million", {size_of(1, 1000000, 128, 10), size_of(64, 1000000, 128, 10)}},
          {"centroids", {size_of(64, 1024, 128, 16), size_of(4096, 1024, 128, 1)}}};
}

void fill_flat(const spec::FillRequest& request) {
  const int64_t width = request.dims.at("D");
  for (size_t i = 0; i < 2; ++i)
    fill_rows(static_cast<float*>(request.inputs[i]), request.dims.at(i == 0 ? "M" : "N"), width,
              request.distribution, request.seed * 2 + i);
}

}  // namespace

spec::Op flat_op(const std::string& name, Metric metric) {
  spec::Op op;
  op.name = name;
  op.inputs = flat_inputs();
  op.outputs = neighbour_ports();
  op.dims = {{"M", spec::Dim::Kind::dim, false, true},
             {"N", spec::Dim::Kind::dim, false, true},
             {"D"},
             {"k", spec::Dim::Kind::attribute, false, false, 10}};
  op.batch_dim = "M";
  op.proof_dims = {"N"};
  op.suites = flat_suites();
  op.edge_sizes = {size_of(1, 1, 1, 1),     size_of(3, 7, 5, 10),     size_of(2, 100, 17, 3),
                   size_of(33, 257, 64, 7), size_of(260, 70, 100, 1), size_of(17, 3000, 24, 200),
                   size_of(5, 40, 3001, 4), size_of(13, 90, 300, 90), size_of(4, 2500, 20, 1024)};
  op.complete = [name](const Dims& dims) {
    check_neighbours(name, dims);
    if (dims.at("N") >= kMostRows)
      base::misuse("kernels", name + ": N is " + std::to_string(dims.at("N")) +
                                  ": give fewer than 2147483648 rows at once");
    return dims;
  };
  op.cost = [inputs = op.inputs, outputs = op.outputs](const Dims& dims, Dtype t) {
    const auto m = static_cast<double>(dims.at("M")), n = static_cast<double>(dims.at("N"));
    const auto bytes =
        static_cast<double>(spec::bytes_of(inputs, t, dims) + spec::bytes_of(outputs, t, dims));
    return spec::Cost{bytes, 2 * m * n * static_cast<double>(dims.at("D"))};
  };
  op.composition = [metric](const spec::Op::Arrays& in, std::span<const double> numbers,
                            const mx::Stream& s) {
    return vectors::composition(in, static_cast<int>(numbers[0]), metric, s);
  };
  op.gradient = {spec::Gradient::By::none};
  op.fill = fill_flat;
  op.residuals = [metric](const spec::JudgedCase& judged) {
    return flat_residuals(judged, metric);
  };
  op.variants = {cpu_variant(name), flat_in_cuda(name)};
  return op;
}

}  // namespace mlx_kd::kernels::vectors

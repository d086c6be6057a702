// ivf_topk: the nearest vectors to each query in the lists of an inverted file that it probes.
#include <algorithm>
#include <stdexcept>

#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/vectors/cuda_variant.h"
#include "mlx_kd/kernels/vectors/flat.h"
#include "mlx_kd/kernels/vectors/lists.h"

namespace mlx_kd::kernels {

spec::Op make_ivf_topk();

namespace ivf_topk {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;
using vectors::Metric;

Dims complete(const Dims& dims) {
  vectors::check_neighbours("ivf_topk", dims);
  vectors::check_pairs("ivf_topk", dims);
  return dims;
}

void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  const int64_t width = dims.at("D");
  vectors::fill_rows(static_cast<float*>(request.inputs[0]), dims.at("M"), width,
                     request.distribution, request.seed * 2);
  vectors::fill_rows(static_cast<float*>(request.inputs[1]), dims.at("N"), width,
                     request.distribution, request.seed * 2 + 1);
  vectors::fill_lists(request, 2);
}

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  const Dims& dims = judged.dims;
  const int64_t width = dims.at("D");
  const auto* queries = static_cast<const float*>(judged.inputs[0]);
  const auto* base = static_cast<const float*>(judged.inputs[1]);
  const Metric metric = vectors::metric_of(dims);
  return vectors::lists_residuals(judged, 2, metric, [=](int64_t i, int64_t, int64_t row) {
    return vectors::distance64(queries + i * width, base + row * width, width, metric);
  });
}

spec::Cost cost(const Dims& dims, Dtype) {
  const auto number = [&](const char* name) { return static_cast<double>(dims.at(name)); };
  const double m = number("M"), pairs = m * number("P"), row = 4 * number("D");
  const double lists = std::min(pairs, number("L")), vectors = number("N") / number("L");
  // The lists that one query probes are read at least once.
  const double read = std::min(number("P"), number("L")) * vectors * (row + 8);
  return {read + m * row + pairs * 8 + std::min(lists, number("P")) * 8 + m * number("k") * 12,
          2 * pairs * vectors * number("D")};
}

Dims size_of(int64_t m, int64_t n, int64_t width, int64_t probes, int64_t lists, int64_t k,
             int64_t inner = 0) {
  return {{"M", m},     {"N", n}, {"D", width},    {"P", probes},
          {"L", lists}, {"k", k}, {"inner", inner}};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The k nearest vectors to each query in the lists of an inverted file that it probes: of "
      "least squared L2 distance, or of largest inner product. A list is read once for all queries "
      "that probe it.";
  doc.parameters = {{"queries", "float32 [M, D]."},
                    {"vectors", "float32 [N, D], list after list."},
                    {"probes", "int64 [M, P], the lists of each query, each once; -1: none."},
                    {"offsets", "int64 [L + 1], rising from 0 to N: where the lists begin."},
                    {"labels", "int64 [N], the ids of the vectors."},
                    {"k", "1 to 1,024."},
                    {"inner", "0: squared L2 distances; 1: inner products."}};
  doc.returns =
      "Distances, float32 [M, k], the best first, and ids, int64 [M, k]. Vectors with NaN or at an "
      "infinite distance are never found. Where fewer than k are, the rest has the id -1 and the "
      "largest float32 (the lowest of inner products).";
  doc.errors = "If the arrays do not go together, or k is out of range.";
  return doc;
}

void signature(std::span<const spec::ArrayView> in, std::span<const double>,
               std::span<int64_t> dims) {
  vectors::read_lists("ivf_topk", in, 2, dims);
  if (in[1].shape.size() != 2 || in[1].shape[1] != in[0].shape[1])
    throw std::invalid_argument("[ivf_topk] vectors has shape " + shape_text(in[1].shape) +
                                ": give (N, " + std::to_string(in[0].shape[1]) + ")");
  dims[1] = in[1].shape[0], dims[2] = in[0].shape[1];
  dims[3] = in[2].shape[1], dims[4] = in[3].shape[0] - 1;
  if (in[4].shape.size() != 1 || in[4].shape[0] != dims[1])
    throw std::invalid_argument("[ivf_topk] labels has shape " + shape_text(in[4].shape) +
                                ": give (" + std::to_string(dims[1]) + ")");
}

spec::Variant cpu_variant() {
  spec::Variant variant = vectors::lists_variant("ivf_topk");
  variant.space = vectors::cpu_space;
  return variant;
}

}  // namespace
}  // namespace ivf_topk

spec::Op make_ivf_topk() {
  using namespace ivf_topk;
  spec::Op op;
  op.name = "ivf_topk";
  op.summary = "the k nearest vectors to each query in the lists that it probes";
  op.doc = ivf_topk::doc();
  op.inputs = vectors::list_ports({{"vectors",
                                    [](const Dims& d) {
                                      return Shape{d.at("N"), d.at("D")};
                                    },
                                    Dtype::float32}});
  op.outputs = vectors::neighbour_ports();
  op.dims = {{"M", spec::Dim::Kind::dim, false, true},
             {"N", spec::Dim::Kind::dim, false, true},
             {"D"},
             {"P"},
             {"L"},
             {"k", spec::Dim::Kind::attribute, false, false, 10},
             {.name = "inner", .kind = spec::Dim::Kind::attribute}};
  op.batch_dim = "M";
  op.suites = {{"hundred_thousand",
                {size_of(1, 100000, 128, 16, 256, 10), size_of(64, 100000, 128, 16, 256, 10)}},
               {"million",
                {size_of(1, 1000000, 128, 16, 1024, 10), size_of(64, 1000000, 128, 16, 1024, 10)}}};
  op.edge_sizes = {size_of(1, 1, 1, 1, 1, 1),      size_of(3, 40, 5, 2, 4, 10, 1),
                   size_of(9, 300, 17, 3, 7, 4),   size_of(40, 900, 24, 6, 9, 20, 1),
                   size_of(300, 200, 33, 2, 2, 3), size_of(5, 3000, 100, 4, 5, 1024)};
  op.complete = ivf_topk::complete;
  op.signature = ivf_topk::signature;
  op.cost = ivf_topk::cost;
  op.gradient = {spec::Gradient::By::none};
  op.fill = ivf_topk::fill;
  op.residuals = ivf_topk::residuals;
  op.variants = {ivf_topk::cpu_variant(), vectors::lists_in_cuda(op.name, {3, 2, 4})};
  return op;
}

}  // namespace mlx_kd::kernels

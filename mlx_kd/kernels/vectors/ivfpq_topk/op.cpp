// ivfpq_topk: the nearest vectors, kept as codes, to each query in the lists that it probes.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/vectors/cuda_variant.h"
#include "mlx_kd/kernels/vectors/flat.h"
#include "mlx_kd/kernels/vectors/lists.h"

namespace mlx_kd::kernels {

spec::Op make_ivfpq_topk();

namespace ivfpq_topk {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;
using vectors::Metric;

constexpr int64_t kCodes = 256, kMostParts = 128, kMostWidth = 8192;  // as in the source

Dims complete(const Dims& dims) {
  vectors::check_neighbours("ivfpq_topk", dims);
  vectors::check_pairs("ivfpq_topk", dims);
  const int64_t parts = dims.at("S"), width = dims.at("D");
  if (parts < 1 || parts > kMostParts || width % parts != 0 || width > kMostWidth)
    base::misuse("kernels", "ivfpq_topk: D is " + std::to_string(width) + " and S " +
                                std::to_string(parts) +
                                ": give D of at most 8192, and a divisor of it of at most 128");
  return dims;
}

void signature(std::span<const spec::ArrayView> in, std::span<const double>,
               std::span<int64_t> dims) {
  vectors::read_lists("ivfpq_topk", in, 4, dims);
  const auto refuse = [&](const char* name, size_t i, const std::string& wanted) {
    throw std::invalid_argument("[ivfpq_topk] " + std::string(name) + " has shape " +
                                shape_text(in[i].shape) + ": give " + wanted);
  };
  const int64_t width = in[0].shape[1], lists = in[5].shape[0] - 1;
  if (in[1].shape.size() != 2) refuse("codes", 1, "(N, S)");
  const int64_t n = in[1].shape[0], parts = in[1].shape[1];
  if (in[2].shape.size() != 3 || in[2].shape[0] != parts || in[2].shape[1] * parts != width ||
      in[2].shape[2] != kCodes)
    refuse(
        "codebooks", 2,
        "(S, D / S, 256), with S = " + std::to_string(parts) + " and D = " + std::to_string(width));
  if (in[3].shape.size() != 2 || in[3].shape[0] != lists || in[3].shape[1] != width)
    refuse("centroids", 3, "(" + std::to_string(lists) + ", " + std::to_string(width) + ")");
  if (in[6].shape.size() != 1 || in[6].shape[0] != n)
    refuse("labels", 6, "(" + std::to_string(n) + ")");
  dims[1] = n, dims[2] = width, dims[3] = parts, dims[4] = in[4].shape[1], dims[5] = lists;
}

void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  const auto floats = [&](size_t i, int64_t rows, int64_t width) {
    vectors::fill_rows(static_cast<float*>(request.inputs[i]), rows, width, request.distribution,
                       request.seed * 4 + i);
  };
  base::Random random(request.seed);
  auto* codes = static_cast<uint8_t*>(request.inputs[1]);
  std::generate_n(codes, dims.at("N") * dims.at("S"),
                  [&] { return static_cast<uint8_t>(random.below(kCodes)); });
  floats(0, dims.at("M"), dims.at("D"));
  floats(2, dims.at("D"), kCodes);
  floats(3, dims.at("L"), dims.at("D"));
  vectors::fill_lists(request, 4);
}

// Of a query and the vector of some codes: exact, of the parts as they are.
class Decoder {
 public:
  explicit Decoder(const spec::JudgedCase& judged)
      : queries_(static_cast<const float*>(judged.inputs[0])),
        codes_(static_cast<const uint8_t*>(judged.inputs[1])),
        books_(static_cast<const float*>(judged.inputs[2])),
        centroids_(static_cast<const float*>(judged.inputs[3])),
        width_(judged.dims.at("D")),
        parts_(judged.dims.at("S")),
        inner_(judged.dims.at("inner") != 0) {}

  vectors::Distance64 distance(int64_t query, int64_t list, int64_t row) const {
    double value = 0, norms = 0;
    for (int64_t j = 0; j < width_; ++j) {
      const int64_t each = width_ / parts_, part = j / each;
      const int64_t code = codes_[row * parts_ + part];
      const auto q = static_cast<double>(queries_[query * width_ + j]);
      const auto c = static_cast<double>(centroids_[list * width_ + j]);
      const auto y = static_cast<double>(books_[j * kCodes + code]);
      value += inner_ ? q * c + q * y : (q - c - y) * (q - c - y);
      norms += q * q + c * c + y * y;
    }
    return {value, 8 * 0x1p-24 * norms + 0x1p-126};
  }

 private:
  const float* queries_;
  const uint8_t* codes_;
  const float *books_, *centroids_;
  int64_t width_, parts_;
  bool inner_;
};

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  const Metric metric = vectors::metric_of(judged.dims);
  const Decoder decoder(judged);
  return vectors::lists_residuals(judged, 4, metric, [&](int64_t i, int64_t list, int64_t row) {
    return decoder.distance(i, list, row);
  });
}

spec::Cost cost(const Dims& dims, Dtype) {
  const auto number = [&](const char* name) { return static_cast<double>(dims.at(name)); };
  const double m = number("M"), pairs = m * number("P"), row = 4 * number("D");
  const double vectors = number("N") / number("L"), probed = std::min(number("P"), number("L"));
  // The lists that one query probes are read at least once.
  const double read = probed * (vectors * (number("S") + 8) + row + 8);
  return {read + m * row + kCodes * row + pairs * 8 + m * number("k") * 12,
          pairs * (2 * kCodes * number("D") + vectors * number("S"))};
}

spec::Variant cpu_variant() {
  spec::Variant variant = vectors::lists_variant("ivfpq_topk");
  variant.space = [](Dtype, const spec::DeviceTraits& traits) {
    using enum spec::KnobScale;
    using enum spec::KnobRole;
    spec::Space space;
    space.knobs = {vector_knob(traits),
                   {"TOGETHER", {8, 4, 16, 1}, log2, source, "vectors that are looked up together"},
                   {"BLOCK", {4, 1, 16, 64}, log2, launch, "queries of a block, at most"}};
    if (has_isa(traits, {"avx512bw", "avx512vbmi"})) {
      space.knobs.push_back({"BYTES",
                             {1, 0},
                             choice,
                             source,
                             "how vectors are chosen",
                             {"by a table of bytes first", "by the table of floats"}});
      space.constraints.push_back({"BYTES is 0 where VEC is below 64: its vectors have 64 bytes",
                                   {"BYTES", "VEC"},
                                   [](const int64_t* v) { return v[0] == 0 || v[1] == 64; }});
    }
    add_thread_knobs(space, traits, {1, 2}, "units");
    return space;
  };
  return variant;
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The k nearest vectors to each query in the lists that it probes, where a vector is the "
      "centroid of its list and S codes of 8 bits that name the parts of its rest: of least "
      "squared "
      "L2 distance, or of largest inner product.";
  doc.parameters = {{"queries", "float32 [M, D]."},
                    {"codes", "uint8 [N, S], list after list; S divides D and is at most 128."},
                    {"codebooks", "float32 [S, D / S, 256], the parts of a code side by side."},
                    {"centroids", "float32 [L, D]."},
                    {"probes", "int64 [M, P], the lists of each query, each once; -1: none."},
                    {"offsets", "int64 [L + 1], rising from 0 to N: where the lists begin."},
                    {"labels", "int64 [N], the ids of the vectors."},
                    {"k", "1 to 1,024."},
                    {"inner", "0: squared L2 distances; 1: inner products."}};
  doc.returns =
      "Distances to the decoded vectors, float32 [M, k], the best first, and ids, int64 [M, k]. "
      "Where fewer than k are found, the rest has the id -1 and the largest float32 (the lowest of "
      "inner products).";
  doc.errors = "If the arrays do not go together, or k is out of range.";
  return doc;
}

Dims size_of(int64_t m, int64_t n, int64_t width, int64_t parts, int64_t probes, int64_t lists,
             int64_t k, int64_t inner = 0) {
  return {{"M", m},      {"N", n},     {"D", width}, {"S", parts},
          {"P", probes}, {"L", lists}, {"k", k},     {"inner", inner}};
}

std::vector<spec::Port> inputs() {
  return vectors::list_ports({{"codes",
                               [](const Dims& d) {
                                 return Shape{d.at("N"), d.at("S")};
                               },
                               Dtype::uint8},
                              {"codebooks",
                               [](const Dims& d) {
                                 const int64_t parts = d.at("S");
                                 return Shape{parts, parts > 0 ? d.at("D") / parts : 0, kCodes};
                               },
                               Dtype::float32},
                              {"centroids",
                               [](const Dims& d) {
                                 return Shape{d.at("L"), d.at("D")};
                               },
                               Dtype::float32}});
}

}  // namespace
}  // namespace ivfpq_topk

spec::Op make_ivfpq_topk() {
  using namespace ivfpq_topk;
  spec::Op op;
  op.name = "ivfpq_topk";
  op.summary = "the k nearest vectors, kept as codes, to each query in the lists that it probes";
  op.doc = ivfpq_topk::doc();
  op.inputs = ivfpq_topk::inputs();
  op.outputs = vectors::neighbour_ports();
  op.dims = {{"M", spec::Dim::Kind::dim, false, true},
             {"N", spec::Dim::Kind::dim, false, true},
             {"D"},
             {"S"},
             {"P"},
             {"L"},
             {"k", spec::Dim::Kind::attribute, false, false, 10},
             {.name = "inner", .kind = spec::Dim::Kind::attribute}};
  op.batch_dim = "M";
  op.suites = {
      {"million",
       {size_of(1, 1000000, 128, 16, 16, 1024, 10), size_of(64, 1000000, 128, 16, 16, 1024, 10)}}};
  op.edge_sizes = {size_of(1, 1, 1, 1, 1, 1, 1),          size_of(3, 40, 6, 2, 2, 4, 10, 1),
                   size_of(9, 300, 24, 3, 3, 7, 4),       size_of(40, 900, 16, 16, 6, 9, 20, 1),
                   size_of(5, 3000, 32, 4, 4, 5, 1024),   size_of(4, 2200, 32, 16, 3, 4, 10),
                   size_of(3, 1700, 40, 20, 4, 5, 12, 1), size_of(30, 2500, 64, 16, 4, 6, 7)};
  op.complete = ivfpq_topk::complete;
  op.signature = ivfpq_topk::signature;
  op.cost = ivfpq_topk::cost;
  op.gradient = {spec::Gradient::By::none};
  op.fill = ivfpq_topk::fill;
  op.residuals = ivfpq_topk::residuals;
  op.variants = {ivfpq_topk::cpu_variant(), vectors::lists_in_cuda(op.name, {6, 4, 8})};
  return op;
}

}  // namespace mlx_kd::kernels

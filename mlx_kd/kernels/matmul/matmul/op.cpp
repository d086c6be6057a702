// matmul: y = act(alpha op(a) op(b) + beta c + bias) of a batch of matrices.
#include <mlx/array.h>

#include <utility>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/matmul/matmul/arrays.h"
#include "mlx_kd/kernels/matmul/matmul/cpu_variants.h"
#include "mlx_kd/kernels/matmul/matmul/cuda_variants.h"
#include "mlx_kd/kernels/matmul/matmul/judge.h"
#include "mlx_kd/kernels/matmul/matmul/metal_variant.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_matmul();

namespace general_product {
namespace {

using spec::Dims;
using spec::Shape;

constexpr int64_t kActivations = 4;

Dims complete(const Dims& dims) {
  for (const char* name : {"transpose_a", "transpose_b", "has_c", "has_bias"})
    if (dims.at(name) > 1)
      base::misuse("kernels", "matmul: " + std::string(name) + " is " +
                                  std::to_string(dims.at(name)) + ": give 0 or 1");
  if (dims.at("activation") >= kActivations)
    base::misuse("kernels", "matmul: activation is " + std::to_string(dims.at("activation")) +
                                ": give 0 (none), 1 (ReLU), 2 (SiLU) or 3 (the tanh form of GELU)");
  return dims;
}

Shape matrices(const Dims& dims, const char* rows, const char* columns, bool transposed) {
  const Shape shape = {dims.at("batch"), dims.at(rows), dims.at(columns)};
  return transposed ? Shape{shape[0], shape[2], shape[1]} : shape;
}

Shape shape_of_a(const Dims& dims) {
  return matrices(dims, "M", "K", dims.at("transpose_a"));
}
Shape shape_of_b(const Dims& dims) {
  return matrices(dims, "K", "N", dims.at("transpose_b"));
}
Shape shape_of_y(const Dims& dims) {
  return matrices(dims, "M", "N", false);
}
Shape shape_of_c(const Dims& dims) {
  return dims.at("has_c") ? shape_of_y(dims) : Shape{0};
}
Shape shape_of_bias(const Dims& dims) {
  return dims.at("has_bias") ? Shape{dims.at("N")} : Shape{0};
}

spec::Cost cost(const Dims& dims, spec::Dtype t) {
  const auto of = [&](const char* name) { return static_cast<double>(dims.at(name)); };
  const double outputs = of("batch") * of("M") * of("N"), element = spec::size_of(t);
  const double inputs = of("batch") * (of("M") + of("N")) * of("K") + of("has_c") * outputs +
                        of("has_bias") * of("N");
  return {element * (inputs + outputs), 2 * outputs * of("K")};
}

// transposed: "nn", "nt", "tn" or "tt": which of a and b are.
Dims size(int64_t m, int64_t n, int64_t k, const std::string& transposed = "nn",
          int64_t batch = 1) {
  return {{"batch", batch},
          {"M", m},
          {"N", n},
          {"K", k},
          {"transpose_a", transposed[0] == 't'},
          {"transpose_b", transposed[1] == 't'},
          {"activation", 0},
          {"has_c", 0},
          {"has_bias", 0}};
}

// Squares, what is not a multiple of a tile, few rows or columns of large matrices, long sums of
// narrow matrices, many small products.
std::vector<spec::Suite> suites() {
  return {{"square", {size(256, 256, 256), size(512, 512, 512, "nt"), size(1024, 1024, 1024)}},
          {"large", {size(2048, 2048, 2048, "nt"), size(4096, 4096, 4096, "nt")}},
          {"odd", {size(255, 257, 259), size(1023, 1025, 1027, "tn"), size(333, 777, 1111, "tt")}},
          {"few_rows",
           {size(2, 4096, 4096, "nt"), size(4, 4096, 4096, "nt"), size(8, 4096, 4096, "nt"),
            size(16, 4096, 4096, "nt")}},
          {"few_rows_nn", {size(2, 4096, 4096), size(4, 4096, 4096), size(16, 4096, 4096)}},
          {"few_columns", {size(4096, 1, 4096), size(4096, 8, 4096), size(4096, 16, 4096, "nt")}},
          {"short_sums", {size(4096, 4096, 4), size(4096, 4096, 32)}},
          {"tall", {size(32, 32, 100000, "tn"), size(32, 32, 1000000, "tn")}},
          {"batch", {size(64, 64, 64, "nn", 256), size(128, 128, 64, "nt", 64)}},
          {"tiny", {size(4, 4, 4, "nn", 100000), size(16, 16, 16, "nt", 10000)}}};
}

// Single elements, ends of tiles and vectors, all transpositions, and each thing that is added.
std::vector<Dims> edge_sizes() {
  return {size(1, 1, 1),
          with(size(3, 5, 2, "tn", 7), {{"activation", 1}}),
          with(size(17, 33, 31, "nt", 2), {{"has_c", 1}, {"has_bias", 1}}),
          with(size(13, 16, 64, "tt"), {{"activation", 2}, {"has_bias", 1}}),
          with(size(70, 130, 45), {{"activation", 3}, {"has_c", 1}}),
          size(1, 300, 257, "nt"),
          size(9, 7, 1100, "tn"),
          size(300, 3, 70)};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "act(alpha op(a) op(b) + beta c + bias) of each matrix of a batch, where op is a transpose "
      "or "
      "nothing. Sums are float32, and the result is rounded once.";
  doc.parameters = {
      {"a",
       "[..., M, K], or [..., K, M] with transpose_a; leading axes broadcast, as those of b and c "
       "do. a, b and c have any strides whose last is 1"},
      {"b", "[..., K, N], or [..., N, K] with transpose_b"},
      {"c", "[..., M, N], or None"},
      {"bias", "[N], added to each row, or None"},
      {"alpha", "Of the product."},
      {"beta", "Of c."},
      {"transpose_a", "1: a is given transposed."},
      {"transpose_b", "1: b is given transposed, as weights of layers are."},
      {"activation", "0: none; 1: ReLU; 2: SiLU; 3: GELU in its tanh form."}};
  doc.returns = "[..., M, N], of the type of a.";
  doc.errors = "Shapes that do not go together.";
  return doc;
}

void add_ports(spec::Op& op) {
  const auto attribute = spec::Dim::Kind::attribute;
  op.inputs = {{.name = "a", .shape = shape_of_a, .strided = true},
               {.name = "b", .shape = shape_of_b, .strided = true},
               {.name = "c", .shape = shape_of_c, .strided = true, .optional = true},
               {.name = "bias", .shape = shape_of_bias, .optional = true}};
  op.outputs = {{"y", shape_of_y}};
  op.dims = {{"batch", spec::Dim::Kind::dim, true, true},
             {"M"},
             {"N"},
             {"K"},
             {.name = "transpose_a", .kind = attribute},
             {.name = "transpose_b", .kind = attribute},
             {.name = "activation", .kind = attribute},
             {.name = "has_c", .kind = attribute},
             {.name = "has_bias", .kind = attribute}};
  op.batch_dim = "batch";
  op.proof_dims = {"M", "N"};
  op.scalars = {{"alpha", 1, {1, -0.5}}, {"beta", 1, {1, 2}}};
}

}  // namespace
}  // namespace general_product

spec::Op make_matmul() {
  using namespace general_product;
  spec::Op op;
  op.name = "matmul";
  op.summary = "act(alpha op(a) op(b) + beta c + bias) of a batch of matrices";
  op.doc = doc();
  add_ports(op);
  op.suites = suites();
  op.edge_sizes = edge_sizes();
  op.complete = complete;
  op.signature = signature;
  op.arrange = arrange;
  op.cost = cost;
  op.mlx = mlx_form;
  op.fill = general_product::fill;
  op.is_sampled = is_sampled;
  op.reference = reference;
  op.bound = bound;
  op.variants = cpu_variants();
  op.variants.push_back(metal_variant());
  for (spec::Variant& variant : cuda_variants()) op.variants.push_back(std::move(variant));
  return op;
}

}  // namespace mlx_kd::kernels

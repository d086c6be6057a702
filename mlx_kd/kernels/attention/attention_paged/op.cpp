#include <mlx/ops.h>

#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/attention/attention_paged/judge.h"
#include "mlx_kd/kernels/attention/key_parts.h"
#include "mlx_kd/kernels/attention/paged_keys.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_attention_paged();

namespace attention_paged {
namespace {

namespace mx = mlx::core;
using spec::ArrayView;
using spec::Dims;
using spec::Dtype;
using enum spec::KnobScale;
using enum spec::KnobRole;

enum DimIndex { kW, kP, kL, kB, kHq, kHk, kM, kDk, kDv };

constexpr const char* kPorts[] = {"q", "key_pages", "value_pages", "table", "begins", "ends"};

constexpr PortShapes kShapes = {"attention_paged", kPorts, "q and key_pages say"};

void signature(std::span<const ArrayView> in, std::span<const double>, std::span<int64_t> dims) {
  for (const PortIndex port : {kQ, kKeyPages, kValuePages})
    if (in[port].shape.size() != 4)
      kShapes.refuse(port, in[port], port == kQ ? "(B, Hq, M, Dk)" : "(P, Hk, L, width)");
  if (in[kTable].shape.size() != 2) kShapes.refuse(kTable, in[kTable], "(B, W)");
  const auto q = in[kQ].shape, keys = in[kKeyPages].shape;
  dims[kB] = q[0], dims[kHq] = q[1], dims[kM] = q[2], dims[kDk] = q[3];
  dims[kP] = keys[0], dims[kHk] = keys[1], dims[kL] = keys[2];
  dims[kDv] = in[kValuePages].shape[3], dims[kW] = in[kTable].shape[1];
  if (dims[kHk] == 0 || dims[kHq] % dims[kHk] != 0)
    kShapes.refuse(kKeyPages, in[kKeyPages],
                   "of a number of heads that divides the " + std::to_string(q[1]) + " of q");
  for (const int64_t width : {dims[kDk], dims[kDv]})
    if (width > attention::kWidestPaged)
      throw std::invalid_argument("[attention_paged] a head is " + std::to_string(width) +
                                  " wide: give heads of at most " +
                                  std::to_string(attention::kWidestPaged));
  kShapes.check(kKeyPages, in[kKeyPages], {dims[kP], dims[kHk], dims[kL], dims[kDk]});
  kShapes.check(kValuePages, in[kValuePages], {dims[kP], dims[kHk], dims[kL], dims[kDv]});
  attention::check_places("attention_paged", kPlaces, in, dims[kB], dims[kW]);
}

Dims complete(const Dims& dims) {
  attention::check_head_counts(dims);
  for (const char* width : {"Dk", "Dv"})
    if (dims.at(width) > attention::kWidestPaged)
      base::misuse("kernels", std::string(width) + " is " + std::to_string(dims.at(width)) +
                                  ": give heads of at most " +
                                  std::to_string(attention::kWidestPaged));
  return dims;
}

// Keys and values are gathered.
spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mx::Stream& s) {
  const mx::array &q = in[kQ], &keys = in[kKeyPages], &values = in[kValuePages];
  const int pages = keys.shape(0), length = keys.shape(2);
  if (pages == 0 || in[kTable].size() == 0 || length == 0 || q.size() == 0)
    return {mx::zeros({q.shape(0), q.shape(1), q.shape(2), values.shape(3)}, q.dtype(), s)};
  const mx::array table = attention::nearest_pages(in[kTable], pages, s);
  return {attention::attend_in_mlx(in, kPlaces, pages, length, attention::gathered(keys, table, s),
                                   attention::gathered(values, table, s), numbers[0], s)};
}

// --- kernels ---

std::vector<spec::Stage> cpu_stages(const Dims& dims, const spec::Setting& knobs) {
  return attention::stages_over_keys("mlx_kd_attention_paged", attention::as_attention(dims),
                                     knobs);
}

spec::Variant cpu_variant() {
  spec::Variant variant;
  variant.name = "blocks";
  variant.language = "cpp";
  variant.source = kernel_source("attention/attention_paged/attention_paged.cpu.cpp");
  variant.func_name = "mlx_kd_attention_paged";
  variant.launch_kind = "cpp_arguments";
  variant.space = [](Dtype dtype, const spec::DeviceTraits& traits) {
    spec::Space space =
        attention::block_space(dtype, traits, {16, 8, 32}, {128, 256, 512, 1024, 2048});
    space.knobs.push_back({"HEADS", {8, 1, 2, 4}, log2, source, "key heads of a unit"});
    return space;
  };
  variant.stages = cpu_stages;
  variant.scratch = [](Dtype dtype, const Dims& dims, const spec::Setting& knobs) {
    return attention::scratch_of_blocks(dtype, attention::as_attention(dims), knobs);
  };
  return variant;
}

// --- sizes ---

Dims size(int64_t w, int64_t l, int64_t hq, int64_t hk, int64_t m, int64_t d, int64_t b = 1) {
  return {{"W", w},   {"P", b * w}, {"L", l},  {"B", b}, {"Hq", hq},
          {"Hk", hk}, {"M", m},     {"Dk", d}, {"Dv", d}};
}

std::vector<spec::Suite> suites() {
  return {{"llama_decode", {size(16, 32, 32, 8, 1, 128), size(128, 32, 32, 8, 1, 128)}},
          {"decode_batches", {size(32, 32, 32, 8, 1, 128, 4)}},
          {"prompt", {size(16, 32, 32, 8, 128, 128)}}};
}

// One key, pages of one row, rows that fill no block or vector, fewer keys than queries.
std::vector<Dims> edge_sizes() {
  return {size(7, 1, 6, 2, 3, 33),
          size(1, 1, 1, 1, 1, 1),
          size(3, 5, 3, 1, 5, 130, 3),
          with(size(9, 16, 9, 1, 1, 64, 4), {{"P", 5}}),
          with(size(2, 4, 4, 4, 2, 72, 2), {{"Dv", 40}}),
          size(33, 64, 8, 2, 1, 96)};
}

spec::Cost cost(const Dims& dims, Dtype dtype) {
  const auto of = [&](const char* name) { return static_cast<double>(dims.at(name)); };
  const double rows = of("B") * of("Hq") * of("M"), width = of("Dk") + of("Dv");
  const double keys = of("W") * of("L"), element = static_cast<double>(spec::size_of(dtype));
  const double pages = std::min(of("B") * of("W"), of("P"));  // rows of a batch may share some
  return {element * width * (rows + pages * of("L") * of("Hk")) + 4 * of("B") * (of("W") + 2),
          2 * rows * keys * width};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "Attention over keys and values in pages: softmax(scale q k^T) v for each head. Key j of "
      "batch row b is row j % L of page table[b, j / L]. Query t sees the keys from begins[b] up "
      "to ends[b] - M + t, so the last query sees all up to ends[b]; a query that sees none gives "
      "zeros. Hq / Hk query heads share each key head; scores, softmax and sums are float32, and "
      "the result is rounded once.";
  doc.parameters = {{"q", "[B, Hq, M, Dk], of any strides whose last is 1"},
                    {"key_pages", "[P, Hk, L, Dk]: P pages of L keys"},
                    {"value_pages", "[P, Hk, L, Dv]"}};
  for (const spec::DocLine& place : attention::place_parameters()) doc.parameters.push_back(place);
  doc.parameters.push_back({"scale", "Of the scores: 1 / sqrt(Dk) for most models"});
  doc.returns = "[B, Hq, M, Dv], in the type of q.";
  doc.errors =
      "Shapes that do not go together; key heads that do not divide the query heads; heads wider "
      "than 1024.";
  return doc;
}

}  // namespace
}  // namespace attention_paged

spec::Op make_attention_paged() {
  using namespace attention_paged;
  spec::Op op;
  op.name = "attention_paged";
  op.summary = "attention of each head over keys and values in pages";
  op.doc = doc();
  op.inputs = {{.name = "q", .shape = shape_of({"B", "Hq", "M", "Dk"}), .strided = true},
               {"key_pages", shape_of({"P", "Hk", "L", "Dk"})},
               {"value_pages", shape_of({"P", "Hk", "L", "Dv"})}};
  for (const spec::Port& place : attention::place_ports()) op.inputs.push_back(place);
  op.outputs = {{"y", shape_of({"B", "Hq", "M", "Dv"})}};
  op.dims = {
      {.name = "W", .free = true}, {"P"}, {"L"}, {"B"}, {"Hq"}, {"Hk"}, {"M"}, {"Dk"}, {"Dv"}};
  op.batch_dim = "W";
  op.scalars = {{"scale", 0.125, {0.125, 0.0883883461}}};
  op.suites = suites();
  op.edge_sizes = edge_sizes();
  op.complete = complete;
  op.signature = signature;
  op.cost = cost;
  op.mlx = mlx_form;
  op.fill = fill;
  op.reference = reference;
  op.bound = bound;
  op.variants = {
      cpu_variant(),
      {"rows", "metal", kernel_source("attention/attention_paged/attention_paged.metal"),
       "mlx_kd_attention_paged", "metal_rows", attention::row_space, attention::launch_rows}};
  return op;
}

}  // namespace mlx_kd::kernels

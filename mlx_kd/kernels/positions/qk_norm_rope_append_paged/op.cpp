#include <mlx/ops.h>

#include <cstring>
#include <iterator>
#include <stdexcept>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/positions/appended_heads.h"

namespace mlx_kd::kernels {

spec::Op make_qk_norm_rope_append_paged();

namespace qk_norm_rope_append_paged {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;
namespace mx = mlx::core;

constexpr const char* kName = "qk_norm_rope_append_paged";

enum DimIndex {
  kP,
  kL,
  kB,
  kHq,
  kHk,
  kM,
  kD,
  kDv,
  kDims,
  kTraditional,
  kRagged,
  kHasFreqs,
  kHasWq,
  kHasWk
};
enum PortIndex { kKeys, kValues, kQ, kK, kV, kSlots, kOffset, kWq, kWk, kFreqs };

constexpr const char* kPorts[] = {"key_pages", "value_pages", "q", "k", "v", "slots"};
constexpr PortShapes kShapes = {kName, kPorts, "q, key_pages and value_pages say"};

void signature(std::span<const spec::ArrayView> in, std::span<const double>,
               std::span<int64_t> dims) {
  for (const PortIndex port : {kKeys, kValues, kQ})
    if (in[port].shape.size() != 4)
      throw std::invalid_argument("[" + std::string(kName) + "] " + kPorts[port] + " has shape " +
                                  shape_text(in[port].shape) +
                                  ": give 4 axes, (B, H, rows, D) or (P, Hk, L, D)");
  const auto keys = in[kKeys].shape, q = in[kQ].shape;
  dims[kP] = keys[0], dims[kHk] = keys[1], dims[kL] = keys[2], dims[kDv] = in[kValues].shape[3];
  dims[kB] = q[0], dims[kHq] = q[1], dims[kM] = q[2], dims[kD] = q[3];
  kShapes.check(kKeys, in[kKeys], {dims[kP], dims[kHk], dims[kL], dims[kD]});
  kShapes.check(kValues, in[kValues], {dims[kP], dims[kHk], dims[kL], dims[kDv]});
  kShapes.check(kK, in[kK], {dims[kB], dims[kHk], dims[kM], dims[kD]});
  kShapes.check(kV, in[kV], {dims[kB], dims[kHk], dims[kM], dims[kDv]});
  const auto slots = in[kSlots].shape;
  if (slots.size() != 2 || slots[0] != dims[kB] || slots[1] != dims[kM])
    throw std::invalid_argument("[" + std::string(kName) + "] slots has shape " +
                                shape_text(slots) + ": it must be (B, M), as q says");
  read_heads(kName, in, kOffset, q[0], q[3],
             {{dims[kDims], dims[kRagged], dims[kHasFreqs]}, dims[kHasWq], dims[kHasWk]});
}

// Pages with rows (B M, Hk, D) in their slots; those of a slot outside go to a page that is
// dropped.
mx::array written(const mx::array& pages, const mx::array& rows, const mx::array& slots,
                  const mx::Stream& s) {
  const int count = pages.shape(0), length = pages.shape(2), all = count * length;
  if (all == 0 || rows.size() == 0) return pages;
  const mx::array flat = mx::flatten(slots, s);
  const mx::array inside = mx::logical_and(mx::greater_equal(flat, mx::array(0), s),
                                           mx::less(flat, mx::array(all), s), s);
  const mx::array slot = mx::where(inside, flat, mx::array(all), s), divisor(length);
  const mx::array page = mx::floor_divide(slot, divisor, s);
  const mx::array place = mx::remainder(slot, divisor, s);
  const mx::array by_slot = mx::swapaxes(pages, 1, 2, s);  // (P, L, Hk, D)
  const mx::Shape first = {1, length, pages.shape(1), pages.shape(3)};
  const mx::array more = mx::concatenate({by_slot, mx::zeros(first, pages.dtype(), s)}, 0, s);
  const mx::array now =
      mx::scatter(more, {page, place}, mx::expand_dims(rows, std::vector<int>{1, 2}, s), {0, 1}, s);
  const mx::Shape end = {count, length, pages.shape(1), pages.shape(3)};
  return mx::swapaxes(mx::slice(now, {0, 0, 0, 0}, end, s), 1, 2, s);
}

mx::array by_token(const mx::array& x, const mx::Stream& s) {  // (B, H, M, D) to (B M, H, D)
  const int heads = x.shape(1), width = x.shape(3);
  return mx::reshape(mx::swapaxes(x, 1, 2, s), {-1, heads, width}, s);
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mx::Stream& s) {
  const MlxRotation by = head_rotation(in, kOffset, numbers);
  const mx::array k = heads_in_mlx(in[kK], in[kWk], numbers[0], by, s);
  return {written(in[kKeys], by_token(k, s), in[kSlots], s),
          written(in[kValues], by_token(in[kV], s), in[kSlots], s),
          heads_in_mlx(in[kQ], in[kWq], numbers[0], by, s)};
}

int64_t rows_of_pages(const Dims& dims) {
  return dims.at("P") * dims.at("Hk") * dims.at("L");
}

// The row of a page's first head that new row i goes to; -1 where its slot is outside.
int64_t row_of(const void* slots, const Dims& dims, int64_t i) {
  const int64_t slot = spec::load_integer(slots, i, Dtype::int32), length = dims.at("L");
  if (slot < 0 || slot >= dims.at("P") * length) return -1;
  return slot / length * dims.at("Hk") * length + slot % length;
}

// Every new row of a head that has a slot: (row among the new ones, row among those of the pages).
template <class Visit>
void each_row(const void* slots, const Dims& dims, const Visit& visit) {
  const int64_t added = dims.at("M"), heads = dims.at("Hk");
  for (int64_t i = 0; i < dims.at("B") * added; ++i)
    if (const int64_t row = row_of(slots, dims, i); row >= 0)
      for (int64_t h = 0; h < heads; ++h)
        visit((i / added * heads + h) * added + i % added, row + h * dims.at("L"));
}

// Slots are different from each other where there are enough; some are outside in special cases.
void fill_slots(const spec::FillRequest& request, base::Random& random) {
  const Dims& dims = request.dims;
  const int64_t all = dims.at("P") * dims.at("L"), count = dims.at("B") * dims.at("M");
  const int64_t wrong[] = {-1, all, INT32_MIN, INT32_MAX};
  const auto first = static_cast<int64_t>(random.below(static_cast<uint64_t>(all)));
  for (int64_t i = 0; i < count; ++i) {
    const bool outside = i >= all || (request.distribution == spec::Distribution::special &&
                                      (i + static_cast<int64_t>(request.seed)) % 2 == 1);
    spec::store_integer(request.inputs[kSlots], i, Dtype::int32,
                        outside ? wrong[random.below(std::size(wrong))] : (first + i) % all);
  }
}

void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  const auto& to = request.inputs;
  spec::FillRequest plain = request;
  plain.distribution = spec::Distribution::normal;
  fill_rows(plain, to[kKeys], rows_of_pages(dims) * dims.at("D"), kKeys);
  fill_rows(plain, to[kValues], rows_of_pages(dims) * dims.at("Dv"), kValues);
  fill_new_heads(request, kQ);
  base::Random random(request.seed * 37 + static_cast<uint64_t>(request.distribution));
  fill_slots(request, random);
  fill_offsets(request, to[kOffset]);
  fill_head_weights(request, kOffset);
}

// The pages with the new keys; what is not written keeps its value.
spec::Reference64 updated_keys(const std::vector<const void*>& in, Dtype dtype, const Dims& dims,
                               const spec::Reference64& added) {
  const int64_t width = dims.at("D");
  spec::Reference64 result;
  for (const double y : load_all(in[kKeys], rows_of_pages(dims) * width, dtype))
    append(result, {y, 0, 0});
  each_row(in[kSlots], dims, [&](int64_t from, int64_t to) {
    put_elements(added, from * width, width, result, to * width);
  });
  return result;
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& in, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  const HeadReference made(in, kOffset, dtype, dims, scalars);
  return {updated_keys(in, dtype, dims, made.keys(kK)), {}, made.queries(kQ)};
}

// The values, which are copied.
void exact(const std::vector<const void*>& in, Dtype t, const Dims& dims,
           const std::vector<double>&, const std::vector<void*>& outputs) {
  const int64_t row = dims.at("Dv") * spec::size_of(t);
  auto* const to = static_cast<std::byte*>(outputs[kValues]);
  const auto* const from = static_cast<const std::byte*>(in[kV]);
  std::memcpy(to, in[kValues], static_cast<size_t>(rows_of_pages(dims) * row));
  each_row(in[kSlots], dims, [&](int64_t added, int64_t place) {
    std::memcpy(to + place * row, from + added * row, static_cast<size_t>(row));
  });
}

Dims size(int64_t p, int64_t l, int64_t b, int64_t hq, int64_t hk, int64_t m, int64_t d,
          int64_t dv = 0) {
  return {{"P", p},      {"L", l},           {"B", b},      {"Hq", hq},
          {"Hk", hk},    {"M", m},           {"D", d},      {"Dv", dv > 0 ? dv : d},
          {"dims", 0},   {"traditional", 0}, {"ragged", 0}, {"has_freqs", 0},
          {"has_wq", 0}, {"has_wk", 0}};
}

std::vector<Dims> edge_sizes() {
  return {size(1, 1, 1, 1, 1, 1, 2),
          with(with(size(5, 3, 3, 2, 1, 5, 22, 7), kNormed), {{"ragged", 1}, {"dims", 14}}),
          with(size(2, 4, 2, 3, 2, 4, 75), {{"traditional", 1}, {"dims", 70}, {"has_wk", 1}}),
          with(with(size(3, 8, 1, 5, 2, 3, 128, 64), kNormed), {{"has_freqs", 1}}),
          with(with(size(17, 1, 2, 1, 1, 7, 96), kNormed), {{"traditional", 1}, {"ragged", 1}}),
          with(size(2, 1, 2, 4, 4, 2, 40, 129), {{"has_freqs", 1}, {"has_wq", 1}})};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "qk_norm_rope with a paged cache: queries and keys of a step of attention are normed where "
      "there is a weight, and rotated, and the keys and the values are written into pages, in "
      "place, in one call. Row t of batch row b has position offset[b] + t, and goes to slot "
      "slots[b, t]: row slot % L of page slot / L. The memory of the pages is reused if nothing "
      "else holds it, and copied otherwise.";
  doc.parameters = {
      {"key_pages", "[P, Hk, L, D]: P pages of L rows"},
      {"value_pages", "[P, Hk, L, Dv]"},
      {"q", "[B, Hq, M, D], of any strides whose last is 1"},
      {"k", "[B, Hk, M, D], likewise"},
      {"v", "[B, Hk, M, Dv], likewise"},
      {"slots",
       "int32 [B, M], different from each other. A row whose slot is negative or from P L on is "
       "not written"},
      {"offset", "int32 [1] for all batch rows, or [B]; or an int: positions"}};
  for (const spec::DocLine& parameter : head_parameters()) doc.parameters.push_back(parameter);
  doc.returns = "The updated pages, and q rotated, of its shape and type.";
  doc.errors = "Shapes that do not go together; dims that is odd or above D.";
  return doc;
}

std::vector<spec::Port> inputs() {
  std::vector<spec::Port> ports = {{"key_pages", shape_of({"P", "Hk", "L", "D"})},
                                   {"value_pages", shape_of({"P", "Hk", "L", "Dv"})}};
  for (const spec::Port& port : new_head_ports()) ports.push_back(port);
  ports.push_back({.name = "slots", .shape = shape_of({"B", "M"}), .type = Dtype::int32});
  ports.push_back(rotary_offset());
  for (const spec::Port& port : head_ports()) ports.push_back(port);
  return ports;
}

std::vector<spec::Dim> dims_of_op() {
  std::vector<spec::Dim> dims = {
      {.name = "P", .free = true}, {"L"}, {"B"}, {"Hq"}, {"Hk"}, {"M"}, {"D"}, {"Dv"}};
  for (const spec::Dim& attribute : head_attributes()) dims.push_back(attribute);
  return dims;
}

}  // namespace
}  // namespace qk_norm_rope_append_paged

spec::Op make_qk_norm_rope_append_paged() {
  using namespace qk_norm_rope_append_paged;
  using spec::Judge;
  spec::Op op;
  op.name = kName;
  op.summary = "qk_norm_rope whose keys are written into pages with the values, in place";
  op.doc = doc();
  op.inputs = inputs();
  op.outputs = {
      {"key_pages_out", shape_of({"P", "Hk", "L", "D"}), {}, Judge::bound, "key_pages"},
      {"value_pages_out", shape_of({"P", "Hk", "L", "Dv"}), {}, Judge::exact, "value_pages"},
      {"q_out", shape_of({"B", "Hq", "M", "D"})}};
  op.dims = dims_of_op();
  op.batch_dim = "P";
  op.scalars = {eps_scalar(), rotary_base(), rotary_scale()};
  op.suites = {{"decode",
                {size(128, 32, 1, 32, 4, 1, 64), with(size(128, 32, 1, 32, 8, 1, 128), kNormed),
                 with(size(128, 32, 4, 32, 8, 1, 128), {{"ragged", 1}})}},
               {"prompt", {with(size(128, 32, 1, 32, 8, 512, 128), kNormed)}}};
  op.edge_sizes = edge_sizes();
  op.complete = complete_heads;
  op.signature = signature;
  op.cost = cost_of_append;
  op.mlx = mlx_form;
  op.fill = fill;
  op.reference = reference;
  op.exact = exact;
  op.bound = bound_of_heads;
  op.variants = {
      {"positions", "cpp",
       kernel_source("positions/qk_norm_rope_append_paged/qk_norm_rope_append_paged.cpu.cpp"),
       "mlx_kd_qk_norm_rope_append_paged", "cpp_arguments", cpu_rotary_space, launch_cpu_rotary},
      {"rows", "metal",
       kernel_source("positions/qk_norm_rope_append_paged/qk_norm_rope_append_paged.metal"),
       "mlx_kd_qk_norm_rope_append_paged", "metal_flat", metal_rotary_space,
       [](const Dims& dims, const spec::Setting& knobs) {
         return launch_metal_rotary(dims, dims.at("Hq") + 2 * dims.at("Hk"), knobs);
       }}};
  return op;
}

}  // namespace mlx_kd::kernels

#include <cstring>
#include <stdexcept>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/positions/appended_heads.h"
#include "mlx_kd/kernels/positions/slots.h"

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

constexpr const char* kPorts[] = {"key_pages", "value_pages", "q", "k", "v"};
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
  check_slots(kName, in[kSlots], dims[kB], dims[kM]);
  read_heads(kName, in, kOffset, q[0], q[3],
             {{dims[kDims], dims[kRagged], dims[kHasFreqs]}, dims[kHasWq], dims[kHasWk]});
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mx::Stream& s) {
  const MlxRotation by = head_rotation(in, kOffset, numbers);
  const mx::array k = heads_in_mlx(in[kK], in[kWk], numbers[0], by, s);
  return {written_to_slots(in[kKeys], k, in[kSlots], s),
          written_to_slots(in[kValues], in[kV], in[kSlots], s),
          heads_in_mlx(in[kQ], in[kWq], numbers[0], by, s)};
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
  fill_slots(request, kSlots, random);
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
  each_row_in_slot(in[kSlots], dims, [&](int64_t from, int64_t to) {
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
  each_row_in_slot(in[kSlots], dims, [&](int64_t added, int64_t place) {
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
  doc.parameters = {{"key_pages", "[P, Hk, L, D]: P pages of L rows"},
                    {"value_pages", "[P, Hk, L, Dv]"},
                    {"q", "[B, Hq, M, D], of any strides whose last is 1"},
                    {"k", "[B, Hk, M, D], likewise"},
                    {"v", "[B, Hk, M, Dv], likewise"},
                    slots_parameter(),
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
  ports.push_back(slots_port());
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

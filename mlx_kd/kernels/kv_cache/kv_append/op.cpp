#include <algorithm>
#include <cstring>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/cache_rows.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/kv_cache/kv_append/model_sizes.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_kv_append();

namespace kv_append {
namespace {

using spec::ArrayView;
using spec::Dims;
using spec::Dtype;
using spec::Shape;
namespace mx = mlx::core;

enum DimIndex { kS, kB, kH, kM, kDk, kDv, kRagged };

constexpr const char* kPorts[] = {"keys", "values", "new_keys", "new_values", "offset"};
constexpr PortShapes kShapes = {"kv_append", kPorts, "keys and new_keys say"};

void signature(std::span<const ArrayView> in, std::span<const double>, std::span<int64_t> dims) {
  for (const size_t port : {0, 1, 2})
    if (in[port].shape.size() != 4) kShapes.refuse(port, in[port], "of 4 axes: (B, H, S, D)");
  const auto keys = in[0].shape;
  dims[kB] = keys[0], dims[kH] = keys[1], dims[kS] = keys[2], dims[kDk] = keys[3];
  dims[kDv] = in[1].shape[3], dims[kM] = in[2].shape[2];
  kShapes.check(1, in[1], {dims[kB], dims[kH], dims[kS], dims[kDv]});
  kShapes.check(2, in[2], {dims[kB], dims[kH], dims[kM], dims[kDk]});
  kShapes.check(3, in[3], {dims[kB], dims[kH], dims[kM], dims[kDv]});
  const auto offset = in[4].shape;
  if (offset.size() != 1 || (offset[0] != 1 && offset[0] != dims[kB]))
    kShapes.refuse(4, in[4], "(1) or (" + std::to_string(dims[kB]) + ")");
  dims[kRagged] = offset[0] != 1;
}

void exact(const std::vector<const void*>& inputs, Dtype t, const Dims& dims,
           const std::vector<double>&, const std::vector<void*>& outputs) {
  const int64_t heads = dims.at("H"), rows = dims.at("S"), added = dims.at("M");
  for (const size_t port : {0, 1}) {
    const int64_t row = dims.at(port ? "Dv" : "Dk") * spec::size_of(t);
    auto* to = static_cast<std::byte*>(outputs[port]);
    const auto* from = static_cast<const std::byte*>(inputs[2 + port]);
    std::memcpy(to, inputs[port], static_cast<size_t>(dims.at("B") * heads * rows * row));
    for (int64_t head = 0; head < dims.at("B") * heads; ++head)
      if (const int64_t first = first_row(inputs[4], dims, head / heads); first >= 0)
        std::memcpy(to + (head * rows + first) * row, from + head * added * row,
                    static_cast<size_t>(added * row));
  }
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double>,
                          const mx::Stream& s) {
  return append_in_mlx({in[0], in[1]}, {in[2], in[3]}, in[4], s);
}

// Any bits: they are copied. Some offsets do not fit where the distribution is special.
void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  base::Random random(request.seed * 31 + static_cast<uint64_t>(request.distribution));
  const int64_t each = dims.at("B") * dims.at("H") * spec::size_of(request.t);
  for (size_t port = 0; port < 4; ++port) {
    const int64_t bytes =
        each * dims.at(port < 2 ? "S" : "M") * dims.at(port % 2 == 0 ? "Dk" : "Dv");
    auto* to = static_cast<std::byte*>(request.inputs[port]);
    for (int64_t at = 0; at < bytes; at += 8) {
      const uint64_t bits = random.next();
      std::memcpy(to + at, &bits, static_cast<size_t>(std::min<int64_t>(8, bytes - at)));
    }
  }
  fill_offsets(request, 4, random);
}

spec::Space space(Dtype, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"COPY",
                  {4, 0, 1, 2, 8},
                  spec::KnobScale::linear,
                  spec::KnobRole::source,
                  "vectors a turn of the copy; 0: memcpy"}};
  add_thread_knobs(space, traits, {256, 32, 64, 128, 512, 1024}, "new rows");
  space.constraints.push_back({"VEC is the widest where COPY is 0: memcpy decides for itself",
                               {"VEC", "COPY"},
                               [widest = space.knobs.front().values.front()](const int64_t* v) {
                                 return v[1] > 0 || v[0] == widest;
                               }});
  return space;
}

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {
      pack_knob(),
      {"UNROLL", {1, 2, 4, 8}, spec::KnobScale::log2, spec::KnobRole::source, "packs of a thread"},
      group_knob()};
  return space;
}

spec::Launch launch_metal(const Dims& dims, const spec::Setting& knobs) {
  const int64_t rows = dims.at("B") * dims.at("H") * dims.at("M"), vec = knobs.at("VEC");
  const int64_t packs = divide_up(dims.at("Dk"), vec) + divide_up(dims.at("Dv"), vec);
  return launch_flat(divide_up(rows * packs, knobs.at("UNROLL")), knobs);
}

spec::Cost cost(const Dims& dims, Dtype dtype) {
  const int64_t rows = dims.at("B") * dims.at("H") * dims.at("M");
  const int64_t bytes = 2 * rows * (dims.at("Dk") + dims.at("Dv")) * spec::size_of(dtype);
  return {static_cast<double>(bytes + 4 * offset_shape(dims).front()), 0};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "Writes new keys and values into a cache, in place. Batch row b of new_keys and new_values "
      "goes to rows offset[b], offset[b] + 1, .. of keys and values; all other rows keep their "
      "bits. The memory of the cache is reused if nothing else holds it, and copied otherwise.";
  doc.parameters = {{"keys", "[B, H, S, Dk], the cache"},
                    {"values", "[B, H, S, Dv], the cache; Dv may differ from Dk"},
                    {"new_keys", "[B, H, M, Dk], of any strides whose last is 1"},
                    {"new_values", "[B, H, M, Dv], likewise"},
                    {"offset",
                     "int32 [1] for all batch rows, or [B]; or an int. A batch row whose offset is "
                     "negative or above S - M is not written"}};
  doc.returns = "The updated keys and values.";
  doc.errors =
      "Shapes that do not go together; an offset that is not int32; an int that is negative or "
      "above S - M.";
  return doc;
}

spec::Dims size(int64_t b, int64_t h, int64_t m, int64_t dk, int64_t dv, int64_t s = 4096) {
  return {{"S", s}, {"B", b}, {"H", h}, {"M", m}, {"Dk", dk}, {"Dv", dv}, {"ragged", b > 1}};
}

// Widths that are not a multiple of a vector, one row, a cache that is full, one offset for three.
std::vector<Dims> edge_sizes() {
  std::vector<Dims> sizes = {size(1, 1, 1, 1, 1, 1),    size(3, 2, 1, 64, 40, 9),
                             size(4, 3, 5, 33, 7, 5),   size(8, 1, 1, 72, 64, 17),
                             size(2, 2, 3, 6, 130, 12), size(1, 2, 7, 128, 128, 6)};
  Dims shared = size(3, 2, 4, 24, 16, 20);
  shared.set("ragged", 0);
  sizes.push_back(shared);
  return sizes;
}

std::vector<spec::Suite> suites() {
  return {{"decode", {size(1, 8, 1, 128, 128), size(4, 8, 1, 128, 128)}},
          {"decode_batches", {size(2, 8, 1, 128, 128), size(8, 8, 1, 128, 128, 2048)}},
          {"latent_decode", {size(1, 1, 1, 576, 512), size(8, 1, 1, 576, 512)}},
          {"prefill", {size(1, 8, 128, 128, 128), size(1, 1, 128, 576, 512)}}};
}

}  // namespace
}  // namespace kv_append

spec::Op make_kv_append() {
  using namespace kv_append;
  using spec::Judge;
  spec::Op op;
  op.name = "kv_append";
  op.summary = "new keys and values into a cache, in place, at an offset for each batch row";
  op.doc = doc();
  op.inputs = {{"keys", cache_rows("S", "Dk")},
               {"values", cache_rows("S", "Dv")},
               {.name = "new_keys", .shape = cache_rows("M", "Dk"), .strided = true},
               {.name = "new_values", .shape = cache_rows("M", "Dv"), .strided = true},
               offset_port()};
  op.outputs = {{"keys_out", cache_rows("S", "Dk"), {}, Judge::exact, "keys"},
                {"values_out", cache_rows("S", "Dv"), {}, Judge::exact, "values"}};
  op.dims = {{.name = "S", .free = true},
             {"B"},
             {"H"},
             {"M"},
             {"Dk"},
             {"Dv"},
             {.name = "ragged", .kind = spec::Dim::Kind::attribute}};
  op.batch_dim = "S";
  op.suites = suites();
  op.edge_sizes = edge_sizes();
  op.complete = complete_places;
  op.signature = signature;
  op.of_model = kv_append::model_sizes;
  op.cost = cost;
  op.mlx = mlx_form;
  op.exact = exact;
  op.fill = fill;
  op.variants = {{"rows", "cpp", kernel_source("kv_cache/kv_append/kv_append.cpu.cpp"),
                  "mlx_kd_kv_append", "cpp_arguments", space,
                  [](const Dims& dims, const spec::Setting& knobs) {
                    return share_units(dims.at("B") * dims.at("H") * dims.at("M"), knobs);
                  }},
                 {"packs", "metal", kernel_source("kv_cache/kv_append/kv_append.metal"),
                  "mlx_kd_kv_append", "metal_flat", metal_space, launch_metal}};
  return op;
}

}  // namespace mlx_kd::kernels

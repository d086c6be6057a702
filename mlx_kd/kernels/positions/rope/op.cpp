#include <mlx/ops.h>

#include <cmath>
#include <limits>
#include <tuple>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/positions/rope/model_sizes.h"

namespace mlx_kd::kernels {

spec::Op make_rope();

namespace rope {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;
namespace mx = mlx::core;

Dims complete(const Dims& dims) {
  const int64_t nope = dims.at("D_NOPE"), rope = dims.at("D_ROPE");
  if (rope % 2 != 0)
    base::misuse("kernels", "D_ROPE is " + std::to_string(rope) +
                                ", but rope rotates pairs: give an even number");
  return {{"B", dims.at("B")},
          {"H_Q", dims.at("H_Q")},
          {"D_NOPE", nope},
          {"D_ROPE", rope},
          {"D_OUT", nope + rope}};
}

std::function<Shape(const Dims&)> heads_of(const char* width) {
  return [width](const Dims& dims) {
    return Shape{dims.at("B"), dims.at("H_Q"), 1, dims.at(width)};
  };
}

std::function<Shape(const Dims&)> key_of(const char* width) {
  return [width](const Dims& dims) { return Shape{dims.at("B"), 1, 1, dims.at(width)}; };
}

Shape angles(const Dims& dims) {
  return {dims.at("D_ROPE") / 2};
}

spec::ErrorBound bound(const Dims&) {
  return {2,
          "The rotated element is rounded to the type; its two products are rounded in float32. S "
          "is |a c| + |b s|. The nope part is copied: nothing is charged."};
}

// One output: `count` heads of nope and rope parts.
struct Heads {
  std::vector<double> nope, rope;
  int64_t count, d_nope, d_rope;
};

// Appends the rotated rope part of head `h`.
void rotate(const Heads& heads, int64_t h, const std::vector<double>& cos,
            const std::vector<double>& sin, double lost, spec::Reference64& result) {
  for (size_t i = 0; i < cos.size(); ++i) {
    const size_t at = static_cast<size_t>(h * heads.d_rope) + 2 * i;
    const double a = heads.rope[at], b = heads.rope[at + 1];
    const double first = a * cos[i] - b * sin[i], second = a * sin[i] + b * cos[i];
    append(result, {first, std::fabs(first), std::fabs(a * cos[i]) + std::fabs(b * sin[i]), lost});
    append(result,
           {second, std::fabs(second), std::fabs(a * sin[i]) + std::fabs(b * cos[i]), lost});
  }
}

spec::Reference64 pack(const Heads& heads, const std::vector<double>& cos,
                       const std::vector<double>& sin, Dtype dtype, double accumulated) {
  spec::Reference64 result;
  for (int64_t h = 0; h < heads.count; ++h) {
    for (int64_t i = 0; i < heads.d_nope; ++i)
      append(result, {heads.nope[static_cast<size_t>(h * heads.d_nope + i)], 0, 0});
    rotate(heads, h, cos, sin, 2 * underflow(dtype), result);
  }
  saturate(result, dtype, accumulated);
  return result;
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>&) {
  const int64_t batch = dims.at("B"), nope = dims.at("D_NOPE"), rope = dims.at("D_ROPE");
  const std::vector<double> cos = load_all(inputs[4], rope / 2, dtype);
  const std::vector<double> sin = load_all(inputs[5], rope / 2, dtype);
  const auto pack_of = [&](size_t port, int64_t count) {
    return pack({load_all(inputs[port], count * nope, dtype),
                 load_all(inputs[port + 1], count * rope, dtype), count, nope, rope},
                cos, sin, dtype, bound(dims).accumulated);
  };
  return {pack_of(0, batch * dims.at("H_Q")), pack_of(2, batch)};
}

// Every second element of the last axis.
mx::array every_second(const mx::array& x, int first, const mx::Stream& s) {
  mx::Shape start(x.ndim(), 0), steps(x.ndim(), 1);
  start.back() = first;
  steps.back() = 2;
  return mx::slice(x, start, x.shape(), steps, s);
}

mx::array rotated(const mx::array& x, const mx::array& cos, const mx::array& sin,
                  const mx::Stream& s) {
  const mx::array a = every_second(x, 0, s), b = every_second(x, 1, s);
  const mx::array ra = mx::subtract(mx::multiply(a, cos, s), mx::multiply(b, sin, s), s);
  const mx::array rb = mx::add(mx::multiply(a, sin, s), mx::multiply(b, cos, s), s);
  return mx::reshape(mx::stack({ra, rb}, -1, s), x.shape(), s);
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double>,
                          const mx::Stream& s) {
  return {mx::concatenate({in[0], rotated(in[1], in[4], in[5], s)}, -1, s),
          mx::concatenate({in[2], rotated(in[3], in[4], in[5], s)}, -1, s)};
}

// Elements that one turn of the rotation takes: the values of VEC, TURNS and, unless the type is
// bfloat16, SPLIT.
spec::Constraint short_turns(bool parted) {
  const char* text = "a turn of the rotation has at most 64 elements, the usual D_ROPE";
  if (parted)
    return {text, {"VEC", "TURNS"}, [](const int64_t* v) { return v[0] / 2 * v[1] <= 64; }};
  return {text, {"VEC", "TURNS", "SPLIT"}, [](const int64_t* v) {
            return v[0] / (v[2] ? 2 : 4) * v[1] <= 64;
          }};
}

spec::Space space(Dtype dtype, const spec::DeviceTraits& traits) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  const bool parted = dtype == Dtype::bfloat16;
  spec::Space space;
  space.knobs = {
      vector_knob(traits),
      {"COPY", {4, 0, 1, 2, 8}, linear, source, "steps a turn of the copy; 0: memcpy"},
      {"TURNS", {1, 2, 4}, log2, source, "chunks a turn of the rotation"},
      {"TABLE", {1, 0}, choice, source, "angles are widened", {"once a call", "for each head"}}};
  if (!parted)
    space.knobs.push_back(
        {"SPLIT", {0, 1}, choice, source, "pairs are", {"swapped in place", "parted"}});
  space.knobs.push_back(
      {"EXACT", {1, 0}, choice, source, "each product is", {"rounded, as in MLX", "fused"}});
  add_rounding_knob(space, dtype, traits);
  add_stream_knob(space, traits, {0, 1}, {"none", "all"});
  add_thread_knobs(space, traits, {128, 8, 16, 32, 64, 256}, "heads");
  space.constraints.push_back(short_turns(parted));
  if (is_x86(traits))
    space.constraints.push_back({"COPY > 0 where STREAM: memcpy decides for itself",
                                 {"COPY", "STREAM"},
                                 [](const int64_t* v) { return v[0] > 0 || v[1] == 0; }});
  return space;
}

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {pack_knob(),
                 {"UNROLL", {1, 2, 4, 8}, log2, source, "packs of a thread, a grid apart"},
                 {"FUSE", {0, 1}, choice, source, "the second product is", {"rounded", "fused"}},
                 group_knob()};
  return space;
}

spec::Launch launch_metal(const Dims& dims, const spec::Setting& knobs) {
  const int64_t vec = knobs.at("VEC"), unroll = knobs.at("UNROLL");
  const int64_t packs = divide_up(dims.at("D_OUT"), vec);
  const int64_t all = dims.at("B") * (dims.at("H_Q") + 1) * packs;
  return launch_flat(divide_up(all, unroll), knobs);
}

// In head 0 and the key: infinities, NaN, zeros and subnormals, in both parts.
void add_special_values(const std::vector<void*>& inputs, Dtype dtype, const Dims& dims) {
  const double values[] = {
      std::numeric_limits<double>::infinity(),  -0.0,
      std::numeric_limits<double>::quiet_NaN(), 3 * spec::smallest_subnormal(dtype),
      -std::numeric_limits<double>::infinity(), 0.0};
  for (size_t port = 0; port < 4; ++port) {
    const int64_t width = dims.at(port % 2 == 0 ? "D_NOPE" : "D_ROPE");
    for (int64_t j = 0; j < width && j < 6; ++j)
      spec::store_element(inputs[port], width - 1 - j, dtype, static_cast<float>(values[j]));
  }
}

std::vector<Dims> sizes(const std::vector<int64_t>& batches, const std::vector<int64_t>& heads,
                        int64_t nope) {
  std::vector<Dims> result;
  for (int64_t batch : batches)
    for (int64_t count : heads)
      result.push_back({{"B", batch}, {"H_Q", count}, {"D_NOPE", nope}, {"D_ROPE", 64}});
  return result;
}

// Odd parts, and parts beyond every vector width.
std::vector<Dims> edge_sizes() {
  std::vector<Dims> result;
  for (const auto& [batch, nope, rope] :
       {std::tuple{1, 7, 2}, {3, 1, 6}, {2, 40, 38}, {1, 65, 34}, {1, 512, 1040}})
    result.push_back({{"B", batch}, {"H_Q", 5}, {"D_NOPE", nope}, {"D_ROPE", rope}});
  return result;
}

spec::Cost cost(const Dims& dims, Dtype dtype) {
  const auto heads = static_cast<double>(dims.at("B") * (dims.at("H_Q") + 1));
  const auto rope = static_cast<double>(dims.at("D_ROPE"));
  const double elements = 2 * heads * static_cast<double>(dims.at("D_OUT")) + rope;
  return {elements * static_cast<double>(spec::size_of(dtype)), 3 * heads * rope};
}

// The angles of one position, without axes of 1 before them.
mx::array one_position(const mx::array& angles, const std::string& name, const mx::Stream& s) {
  if (angles.ndim() == 1) return angles;
  if (angles.ndim() > 0 && angles.shape(-1) == static_cast<int>(angles.size()))
    return mx::reshape(angles, {-1}, s);
  std::string shape;
  for (const auto extent : angles.shape())
    shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
  throw std::invalid_argument("[rope] " + name + " has shape (" + shape +
                              "): give the angles of one position, D_ROPE/2 of them");
}

spec::Op::Arrays arrange(const spec::Op::Arrays& in, const mx::Stream& s) {
  return {in[0], in[1], in[2], in[3], one_position(in[4], "cos", s), one_position(in[5], "sin", s)};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.function = "rope_concat_qk_decode_pos";
  doc.brief =
      "Query and key of one decoding step of latent attention (MLA). The rope parts are rotated in "
      "interleaved pairs, (a, b) -> (a c - b s, a s + b c), and appended to the nope parts.";
  doc.parameters = {{"q_nope", "[B, H, 1, D_nope]."},
                    {"q_rope", "[B, H, 1, D_rope], D_rope even."},
                    {"kv_nope", "[B, 1, 1, D_nope]."},
                    {"k_rope", "[B, 1, 1, D_rope]."},
                    {"cos", "D_rope / 2 elements, of the one position; axes of 1 may lead."},
                    {"sin", "As cos."}};
  doc.returns = "q of shape [B, H, 1, D_nope + D_rope] and k of shape [B, 1, 1, D_nope + D_rope].";
  doc.errors = "If shapes do not fit, D_rope is odd, or there is more than one position.";
  return doc;
}

}  // namespace
}  // namespace rope

spec::Op make_rope() {
  using namespace rope;
  spec::Op op;
  op.name = "rope";
  op.summary = "decode pack of latent attention: nope part copied, rope part rotated in pairs";
  op.doc = doc();
  op.inputs = {{"q_nope", heads_of("D_NOPE")},
               {"q_rope", heads_of("D_ROPE")},
               {"kv_nope", key_of("D_NOPE")},
               {"k_rope", key_of("D_ROPE")},
               {"cos", angles},
               {"sin", angles}};
  op.outputs = {{"q_out", heads_of("D_OUT")}, {"k_out", key_of("D_OUT")}};
  op.dims = {{"B"}, {"H_Q"}, {"D_NOPE"}, {"D_ROPE"}};
  op.batch_dim = "B";
  op.edge_sizes = edge_sizes();
  op.suites = {{"glm_flash_small", sizes({1, 2, 4}, {32}, 128)},
               {"glm_flash_decode", sizes({1}, {24, 32, 40}, 128)},
               {"glm_mla_decode", sizes({1, 2, 4}, {20}, 512)}};
  op.complete = complete;
  op.of_model = rope::model_sizes;
  op.cost = cost;
  op.arrange = arrange;
  op.mlx = mlx_form;
  op.reference = reference;
  op.bound = bound;
  op.add_special_values = add_special_values;
  op.variants = {{"heads", "cpp", kernel_source("positions/rope/rope.cpu.cpp"), "mlx_kd_rope",
                  "cpu_heads", space,
                  [](const Dims& dims, const spec::Setting& knobs) {
                    return share_units(dims.at("B") * (dims.at("H_Q") + 1), knobs);
                  }},
                 {"heads", "metal", kernel_source("positions/rope/rope.metal"), "mlx_kd_rope",
                  "metal_heads", metal_space, launch_metal}};
  op.variants.back().body = {"rope_decode_pos", [](const Dims& dims, int64_t, int64_t) {
                               return dims.at("B") * (dims.at("H_Q") + 1) * dims.at("D_OUT");
                             }};
  return op;
}

}  // namespace mlx_kd::kernels

#include "mlx_kd/python/decode_layer.h"

#include <bit>
#include <utility>

#include "mlx/device.h"
#include "mlx/ops.h"
#include "mlx/stream.h"
#include "mlx_kd/runtime/call/group.h"
#include "mlx_kd/runtime/call/ops.h"

namespace mlx_kd::python {
namespace {

namespace mx = mlx::core;
using Arrays = std::vector<mx::array>;

mx::array rows_until(const mx::array& rows, int end) {
  if (end == rows.shape(2)) return rows;
  return mx::slice(rows, {0, 0, 0, 0}, {rows.shape(0), rows.shape(1), end, rows.shape(3)});
}

// The same for all layers of a token.
const mx::array& array_of_offset(int offset) {
  thread_local std::pair<int, std::optional<mx::array>> last{-1, std::nullopt};
  if (last.first != offset || !last.second)
    last = {offset, mx::array(std::initializer_list<int>{offset}, mx::int32)};
  return *last.second;
}

std::tuple<mx::array, mx::array, mx::array> queries_keys_values(const DecoderLayer& of,
                                                                const mx::array& x) {
  const auto& [q, k, v] = std::tie(of.q, of.k, of.v);
  if (!q.scales)
    return runtime::matvec_qkv(x, q.weight, k.weight, v.weight, of.attention_norm, q.bias, k.bias,
                               v.bias, of.attention_eps);
  return runtime::qmatvec_qkv(x, q.weight, *q.scales, q.biases, k.weight, *k.scales, k.biases,
                              v.weight, *v.scales, v.biases, of.attention_norm, q.bias, k.bias,
                              v.bias, of.attention_eps);
}

mx::array product(const Linear& linear, const mx::array& x,
                  const std::optional<mx::array>& residual = std::nullopt) {
  if (!linear.scales)
    return runtime::matvec(x, linear.weight, std::nullopt, linear.bias, residual, 1e-5);
  return runtime::qmatvec(x, linear.weight, *linear.scales, linear.biases, std::nullopt,
                          linear.bias, residual, 1e-5);
}

mx::array attention_part(const DecoderLayer& of, const mx::array& x, LayerCache& cache) {
  const auto by_head = [&](const mx::array& a, int n) {
    return mx::reshape(a, {x.shape(0), n, 1, -1});
  };
  const auto [q, k, v] = queries_keys_values(of, x);
  const Rotation& turn = of.rotation;
  auto [keys, values, turned] = runtime::qk_norm_rope_append(
      cache.keys, cache.values, by_head(q, of.heads), by_head(k, of.kv_heads),
      by_head(v, of.kv_heads), array_of_offset(cache.offset), of.q_norm, of.k_norm, turn.freqs,
      of.head_eps, turn.base, turn.scale, turn.dims, turn.traditional);
  cache = {keys, values, cache.offset + 1};
  const mx::array y =
      runtime::attention(turned, rows_until(keys, cache.offset), rows_until(values, cache.offset),
                         std::nullopt, std::nullopt, std::nullopt, of.scale, 0, 0);
  return product(of.out, mx::reshape(y, {x.shape(0), 1, -1}), x);
}

bool is_on_gpu() {
  return mx::default_device() == mx::Device::gpu;
}

// h plus the output of its experts. On a GPU rmsnorm_residual adds them, so that the layer stays
// one operation of the graph; its norm is not used.
mx::array expert_part(const DecoderLayer& of, const mx::array& h) {
  const Experts& experts = *of.experts;
  const Linear &gate = of.gate, &up = of.up, &down = of.down;
  const mx::array x = runtime::rmsnorm(h, of.mlp_norm, of.mlp_eps);
  const auto [ids, weights] = runtime::router(product(experts.router, x), std::nullopt, 1.0,
                                              experts.top, experts.scoring, experts.normalise);
  const mx::array gated = runtime::gather_qmatvec_gate_up(
      mx::reshape(x, {x.shape(0), 1, 1, -1}), ids, gate.weight, *gate.scales, gate.biases,
      up.weight, *up.scales, up.biases, gate.bias, up.bias, of.activation);
  const mx::array each =
      runtime::gather_qmatvec(gated, ids, down.weight, *down.scales, down.biases, down.bias);
  const mx::array sum = runtime::expert_combine(each, weights, weights.dtype() != x.dtype());
  if (!is_on_gpu()) return mx::add(h, sum);
  return runtime::rmsnorm_residual(sum, h, of.mlp_norm, of.mlp_eps).second;
}

// {y, keys, values}
Arrays one_by_one(const DecoderLayer& of, const mx::array& x, const LayerCache& cache) {
  LayerCache longer = cache;
  const mx::array between = attention_part(of, x, longer);
  if (of.experts) return {expert_part(of, between), longer.keys, longer.values};
  const Linear &gate = of.gate, &up = of.up;
  const mx::array h =
      gate.scales
          ? runtime::qmatvec_gate_up(between, gate.weight, *gate.scales, gate.biases, up.weight,
                                     *up.scales, up.biases, of.mlp_norm, of.mlp_eps, of.activation)
          : runtime::matvec_gate_up(between, gate.weight, up.weight, of.mlp_norm, of.mlp_eps,
                                    of.activation);
  return {product(of.down, h, between), longer.keys, longer.values};
}

std::vector<const Linear*> linears_of(const DecoderLayer& of) {
  std::vector<const Linear*> all = {&of.q, &of.k, &of.v, &of.out, &of.gate, &of.up, &of.down};
  if (of.experts) all.push_back(&of.experts->router);
  return all;
}

Arrays inputs_of_step(const DecoderLayer& of, const mx::array& x, const LayerCache& cache) {
  Arrays all;
  all.reserve(40);
  all.insert(all.end(), {x, cache.keys, cache.values, array_of_offset(cache.offset)});
  const auto add = [&](const std::optional<mx::array>& array) {
    if (array) all.push_back(*array);
  };
  for (const Linear* linear : linears_of(of)) {
    all.push_back(linear->weight);
    add(linear->scales);
    add(linear->biases);
    add(linear->bias);
  }
  all.push_back(of.attention_norm);
  all.push_back(of.mlp_norm);
  add(of.q_norm);
  add(of.k_norm);
  add(of.rotation.freqs);
  return all;
}

// What the steps of two layers must have in common to be the same calls: shapes and types, which of
// the optional arrays there are, the numbers, the position and the stream.
using StepKind = std::vector<int64_t>;

void describe(const DecoderLayer& of, const LayerCache& cache, const Arrays& inputs,
              StepKind& kind) {
  kind.clear();
  for (const mx::array& input : inputs) {
    kind.push_back(static_cast<int64_t>(input.ndim()) * 64 +
                   static_cast<int64_t>(input.dtype().val()));
    kind.insert(kind.end(), input.shape().begin(), input.shape().end());
  }
  int64_t given = 0;  // a bias of one product is not that of another
  for (const Linear* linear : linears_of(of))
    given = 4 * given + 2 * linear->bias.has_value() + linear->biases.has_value();
  const Rotation& turn = of.rotation;
  for (const double number :
       {of.attention_eps, of.mlp_eps, of.head_eps, of.scale, turn.base, turn.scale})
    kind.push_back(std::bit_cast<int64_t>(number));
  const mx::Stream stream = mx::default_stream(mx::default_device());
  for (const int64_t number :
       {given, int64_t{of.q_norm.has_value()}, int64_t{turn.freqs.has_value()}, turn.dims,
        turn.traditional, int64_t{of.heads}, int64_t{of.kv_heads}, int64_t{of.activation},
        int64_t{cache.offset}, int64_t{stream.index}})
    kind.push_back(number);
  if (of.experts)
    for (const int64_t number : {of.experts->top, of.experts->scoring, of.experts->normalise})
      kind.push_back(number);
}

struct LastStep {
  const void* layer = nullptr;  // that it was made for
  StepKind kind;
  std::shared_ptr<const runtime::CallGroup> group;  // nullptr: it cannot be one operation
};

Arrays as_one(const void* layer, const DecoderLayer& of, const mx::array& x,
              const LayerCache& cache) {
  thread_local LastStep last;
  thread_local StepKind kind;
  const Arrays inputs = inputs_of_step(of, x, cache);
  describe(of, cache, inputs, kind);
  if (last.layer != layer && last.kind == kind)
    return last.group ? runtime::call_again(*last.group, inputs) : one_by_one(of, x, cache);
  runtime::Grouped made = runtime::as_group(inputs, [&] { return one_by_one(of, x, cache); });
  last = {layer, kind, std::move(made.group)};
  return std::move(made.outputs);
}

}  // namespace

mx::array decode_one(const void* layer, const DecoderLayer& of, const mx::array& x,
                     LayerCache& cache) {
  Arrays made =
      is_on_gpu() && !x.is_tracer() ? as_one(layer, of, x, cache) : one_by_one(of, x, cache);
  cache = {made[1], made[2], cache.offset + 1};
  return made[0];
}

}  // namespace mlx_kd::python

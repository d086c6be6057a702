#include "mlx_kd/runtime/ops.h"

#include "mlx_kd/runtime/call.h"

namespace mlx_kd::runtime {
namespace {

using Arrays = std::vector<mx::array>;

std::pair<mx::array, mx::array> pair_of(Arrays arrays) {
  return {std::move(arrays[0]), std::move(arrays[1])};
}

Arrays run_normed(const Operator& op, const Arrays& inputs, double eps,
                  const mx::StreamOrDevice& s) {
  const Params params = {eps};
  check_params(op, params);
  return run(op, inputs, params, s);
}

}  // namespace

mx::array rmsnorm(const mx::array& x, const mx::array& weight, double eps, mx::StreamOrDevice s) {
  static const Operator& op = known_operator("rmsnorm");
  return run_normed(op, {x, weight}, eps, s)[0];
}

std::pair<mx::array, mx::array> rmsnorm_residual(const mx::array& x, const mx::array& residual,
                                                 const mx::array& weight, double eps,
                                                 mx::StreamOrDevice s) {
  static const Operator& op = known_operator("rmsnorm_residual");
  return pair_of(run_normed(op, {x, residual, weight}, eps, s));
}

mx::array swiglu(const mx::array& gate, const mx::array& up, mx::StreamOrDevice s) {
  static const Operator& op = known_operator("swiglu");
  return run(op, {gate, up}, {}, s)[0];
}

std::pair<mx::array, mx::array> rope_concat_qk_decode_pos(
    const mx::array& q_nope, const mx::array& q_rope, const mx::array& kv_nope,
    const mx::array& k_rope, const mx::array& cos, const mx::array& sin, mx::StreamOrDevice s) {
  static const Operator& op = known_operator("rope");
  return pair_of(run(op, prepared(op, {q_nope, q_rope, kv_nope, k_rope, cos, sin}, s), {}, s));
}

Arrays call(const std::string& op, const Arrays& inputs,
            const std::map<std::string, double>& params, mx::StreamOrDevice s) {
  const Operator& found = known_operator(op);
  return run(found, prepared(found, inputs, s), params_of(found, params), s);
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const Operator& op : all_operators()) names.push_back(op.op->name);
  return names;
}

}  // namespace mlx_kd::runtime

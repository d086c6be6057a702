#include "mlx_kd/runtime/call/ops.h"

#include <cmath>

#include "mlx_kd/runtime/call/call.h"
#include "mlx_kd/runtime/pins/mlx_fallback.h"

namespace mlx_kd::runtime {
namespace {

using Arrays = std::vector<mx::array>;

// What below is no plain call goes the long way, which says what is wrong with it.
bool is_plain_norm(const mx::array& x, const mx::array& weight, double eps) {
  return x.ndim() > 0 && weight.ndim() == 1 && weight.shape(0) == x.shape(-1) && eps > 0 &&
         std::isfinite(eps);
}

bool are_alike(const mx::array& a, const mx::array& b) {
  return a.ndim() > 0 && a.shape() == b.shape();
}

// Each is copied once; an initializer list would copy it twice.
template <class... More>
Arrays list_of(const More&... arrays) {
  Arrays list;
  list.reserve(sizeof...(arrays));
  (list.push_back(arrays), ...);
  return list;
}

mx::array only(Arrays arrays) {
  return std::move(arrays[0]);
}

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
  if (is_plain_norm(x, weight, eps) && passes_by()) return rmsnorm_in_mlx(x, weight, eps, s);
  static const Operator& op = known_operator("rmsnorm");
  return only(run_normed(op, list_of(x, weight), eps, s));
}

std::pair<mx::array, mx::array> rmsnorm_residual(const mx::array& x, const mx::array& residual,
                                                 const mx::array& weight, double eps,
                                                 mx::StreamOrDevice s) {
  if (are_alike(x, residual) && is_plain_norm(x, weight, eps) && passes_by())
    return rmsnorm_residual_in_mlx(x, residual, weight, eps, s);
  static const Operator& op = known_operator("rmsnorm_residual");
  return pair_of(run_normed(op, list_of(x, residual, weight), eps, s));
}

mx::array swiglu(const mx::array& gate, const mx::array& up, mx::StreamOrDevice s) {
  if (are_alike(gate, up) && passes_by()) return swiglu_in_mlx(gate, up, s);
  static const Operator& op = known_operator("swiglu");
  return only(run(op, list_of(gate, up), {}, s));
}

std::pair<mx::array, mx::array> rope_concat_qk_decode_pos(
    const mx::array& q_nope, const mx::array& q_rope, const mx::array& kv_nope,
    const mx::array& k_rope, const mx::array& cos, const mx::array& sin, mx::StreamOrDevice s) {
  static const Operator& op = known_operator("rope");
  return pair_of(
      run(op, prepared(op, list_of(q_nope, q_rope, kv_nope, k_rope, cos, sin), s), {}, s));
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

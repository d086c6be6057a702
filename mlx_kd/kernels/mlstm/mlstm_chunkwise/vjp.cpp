// mlstm_chunkwise_vjp: the gradient of mlstm_chunkwise.
#include <mlx/transforms.h>

#include "mlx_kd/kernels/mlstm/cells.h"
#include "mlx_kd/kernels/mlstm/composition.h"
#include "mlx_kd/kernels/mlstm/cpu_variant.h"
#include "mlx_kd/kernels/mlstm/cuda_variant.h"
#include "mlx_kd/kernels/mlstm/metal_variant.h"
#include "mlx_kd/kernels/mlstm/reference.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_mlstm_chunkwise_vjp();

namespace mlstm_chunkwise_vjp {
namespace {

using spec::Dims;
using spec::Dtype;

std::vector<spec::Port> inputs() {
  std::vector<spec::Port> ports = mlstm::chunkwise_inputs();
  ports.push_back({"dh", mlstm::values});
  ports.push_back({"dc", mlstm::state_c, Dtype::float32});
  ports.push_back({"dn", mlstm::state_n, Dtype::float32});
  ports.push_back({"dm", mlstm::state_m, Dtype::float32});
  return ports;
}

double flops(const Dims& dims) {
  const auto of = [&](const char* name) { return static_cast<double>(dims.at(name)); };
  constexpr double kChunk = 64;
  return of("heads") * of("S") *
         (10 * of("DHQK") * of("DHHV") + kChunk * (3 * of("DHQK") + 2 * of("DHHV")));
}

// That of the parallel form.
spec::Op::Arrays composition(const spec::Op::Arrays& in, std::span<const double> numbers,
                             const mlx::core::Stream& s) {
  const mlstm::FormSettings settings = {numbers[0], numbers[1] != 0, numbers[2] != 0,
                                        numbers[3] != 0};
  const auto form = [&](const spec::Op::Arrays& primals) {
    return mlstm::parallel_form(primals, settings, s);
  };
  return mlx::core::vjp(form, {in.begin(), in.begin() + 8}, {in.begin() + 8, in.end()}).second;
}

}  // namespace
}  // namespace mlstm_chunkwise_vjp

spec::Op make_mlstm_chunkwise_vjp() {
  using namespace mlstm_chunkwise_vjp;
  spec::Op op = mlstm::chunkwise_op("mlstm_chunkwise_vjp", inputs(),
                                    {{"dq", mlstm::keys},
                                     {"dk", mlstm::keys},
                                     {"dv", mlstm::values},
                                     {"di", mlstm::gates, Dtype::float32},
                                     {"df", mlstm::gates, Dtype::float32},
                                     {"dc0", mlstm::given_c, Dtype::float32},
                                     {"dn0", mlstm::given_n, Dtype::float32},
                                     {"dm0", mlstm::given_m, Dtype::float32}},
                                    flops);
  op.summary = "The gradient of mlstm_chunkwise";
  op.doc.hidden = true;
  for (spec::Suite& suite : op.suites)
    for (Dims& size : suite.sizes) size.set("has_state", 1);
  op.composition = composition;
  op.reference = mlstm::backward64;
  op.bound = [](const Dims&) {
    return spec::ErrorBound{mlstm::kAccumulated,
                            "1e-5 of the terms, with those of dh / (N + eps), of dr and of the "
                            "weights in float32; S carries the terms of N along"};
  };
  const std::string path = "mlstm/mlstm_chunkwise/mlstm_chunkwise_vjp";
  op.variants = {mlstm::chunks_on_cpu(op.name, path + ".cpu.cpp", true),
                 mlstm::backward_on_metal(op.name, path + ".metal"),
                 mlstm::backward_on_cuda(op.name, path + ".cu")};
  return op;
}

}  // namespace mlx_kd::kernels

// mlstm_chunkwise: mLSTM over whole sequences, chunk by chunk.
#include <mlx/array.h>

#include "mlx_kd/kernels/mlstm/cells.h"
#include "mlx_kd/kernels/mlstm/composition.h"
#include "mlx_kd/kernels/mlstm/cpu_variant.h"
#include "mlx_kd/kernels/mlstm/cuda_variant.h"
#include "mlx_kd/kernels/mlstm/metal_variant.h"
#include "mlx_kd/kernels/mlstm/reference.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_mlstm_chunkwise();

namespace mlstm_chunkwise {
namespace {

using spec::Dims;
using spec::Dtype;

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "mLSTM over a sequence: a matrix memory for each head with an exponential or sigmoid input "
      "gate and a sigmoid forget gate. Its gradient is the true one, that of the normaliser and of "
      "m included. Memory and sums are float32 whatever the type of q, k and v.";
  doc.parameters = {
      {"q", "[..., S, DHQK], scaled by 1 / sqrt(DHQK) inside"},
      {"k", "[..., S, DHQK]"},
      {"v", "[..., S, DHHV]"},
      {"i", "[..., S], float32: input gates before exp or sigmoid"},
      {"f", "[..., S], float32: forget gates before sigmoid"},
      {"c0", "[..., DHQK, DHHV], float32: the state before the first token; left out: zeros"},
      {"n0", "[..., DHQK], float32, with c0"},
      {"m0", "[...], float32, with c0"},
      {"eps", "Added to the normaliser"},
      {"siging", "1: the input gate is a sigmoid, and there is no m"},
      {"normalize", "0: without a normaliser, with siging alone"},
      {"normalizer_grad", "0: the gradient takes normaliser and m for constants"},
      {"chunk", "Tokens of a chunk, which changes no result but by rounding; 0: the kernel's own"}};
  doc.returns =
      "h [..., S, DHHV] in the type of q, and the state after the last token: c, n and m, float32.";
  doc.errors = "Shapes that do not go together; heads wider than 4096; chunks of more than 1024.";
  return doc;
}

double flops(const Dims& dims) {
  const auto of = [&](const char* name) { return static_cast<double>(dims.at(name)); };
  constexpr double kChunk = 64;
  return of("heads") * of("S") * (4 * of("DHQK") * of("DHHV") + kChunk * (of("DHQK") + of("DHHV")));
}

}  // namespace
}  // namespace mlstm_chunkwise

spec::Op make_mlstm_chunkwise() {
  using namespace mlstm_chunkwise;
  spec::Op op = mlstm::chunkwise_op("mlstm_chunkwise", mlstm::chunkwise_inputs(),
                                    {{"h", mlstm::values},
                                     {"c", mlstm::state_c, Dtype::float32},
                                     {"n", mlstm::state_n, Dtype::float32},
                                     {"m", mlstm::state_m, Dtype::float32}},
                                    flops);
  op.summary = "mLSTM over sequences: h of every token and the state after the last";
  op.doc = doc();
  op.composition = [](const spec::Op::Arrays& in, std::span<const double> numbers,
                      const mlx::core::Stream& s) {
    return mlstm::parallel_form(in, {numbers[0], numbers[1] != 0, numbers[2] != 0}, s);
  };
  op.gradient = {spec::Gradient::By::op, "mlstm_chunkwise_vjp"};
  op.reference = mlstm::forward64;
  op.bound = [](const Dims&) {
    return spec::ErrorBound{mlstm::kAccumulated,
                            "1e-5 of the terms: q k^T, the weights exp(D - m) and sums over tokens "
                            "and widths in float32; S has the terms of the rows over N + eps and, "
                            "times |h|, those of N"};
  };
  const std::string path = "mlstm/mlstm_chunkwise/mlstm_chunkwise";
  op.variants = {mlstm::chunks_on_cpu(op.name, path + ".cpu.cpp", false),
                 mlstm::forward_on_metal(op.name, path + ".metal"),
                 mlstm::forward_on_cuda(op.name, path + ".cu")};
  return op;
}

}  // namespace mlx_kd::kernels

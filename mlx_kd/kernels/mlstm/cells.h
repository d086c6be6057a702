// What the operators of mLSTM have in common: their sizes, their arrays and the inputs of proofs.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::mlstm {

constexpr int64_t kWidest = 4096;     // DHQK and DHHV
constexpr int64_t kMostChunk = 1024;  // tokens

// Shapes of ports; those of a state that may be absent are {0} where has_state is 0.
spec::Shape keys(const spec::Dims& dims);    // heads, S, DHQK
spec::Shape values(const spec::Dims& dims);  // heads, S, DHHV
spec::Shape gates(const spec::Dims& dims);   // heads, S
spec::Shape state_c(const spec::Dims& dims);
spec::Shape state_n(const spec::Dims& dims);
spec::Shape state_m(const spec::Dims& dims);
spec::Shape given_c(const spec::Dims& dims);
spec::Shape given_n(const spec::Dims& dims);
spec::Shape given_m(const spec::Dims& dims);

// q, k, v, i, f and the state before; the state after.
std::vector<spec::Port> chunkwise_inputs();
// mlstm_chunkwise or its gradient, as far as they are alike: name, dims, eps, suites, edges, sizes
// and cost.
spec::Op chunkwise_op(const std::string& name, std::vector<spec::Port> inputs,
                      std::vector<spec::Port> outputs, double (*flops)(const spec::Dims&));

// Misuse, naming the op, for sizes that it does not take.
spec::Dims complete_chunkwise(const std::string& op, const spec::Dims& dims);
spec::Dims size_of(int64_t heads, int64_t s, int64_t qk, int64_t hv);  // attributes by default
// A chunk of a call: what the attribute says, else `preferred`; at most the sequence.
int64_t chunk_of(const spec::Dims& dims, int64_t preferred);

// Of all ports: what is updated in place is read and written.
double bytes_of(const std::vector<spec::Port>& inputs, const std::vector<spec::Port>& outputs,
                spec::Dtype t, const spec::Dims& dims);

spec::Dims size_of(int64_t heads, int64_t s, int64_t qk, int64_t hv);

// Writes the inputs of a proof by the names of their ports: gates of all sizes, and, where special,
// infinite ones. `ports`: of the op.
void fill(const spec::FillRequest& request, const std::vector<spec::Port>& ports);

}  // namespace mlx_kd::kernels::mlstm

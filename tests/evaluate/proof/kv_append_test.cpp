// kv_append: wrong kernels that its proof must reject, an empty batch, and memory that is taken
// over rather than copied.
#include <mlx/mlx.h>

#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/kernels/op_table.h"
#include "tests/evaluate/proof_rig.h"

namespace mlx_kd::evaluate::kv_append_test {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;

const Dims kRagged = {{"S", 12},  {"B", 4},   {"H", 2},     {"M", 3},
                      {"Dk", 24}, {"Dv", 16}, {"ragged", 1}};

const spec::Op& kv_append() {
  return kernels::find_op("kv_append");
}

const spec::Variant& append_on_cpu() {
  return kv_append().variants.front();
}

Proof prove_append_with(ProofRig& append_rig, const std::string& right, const std::string& wrong) {
  const spec::Setting knobs = spec::default_setting(append_rig.space(append_on_cpu()));
  return append_rig.prove_changed(append_rig.candidate(append_on_cpu(), knobs), right, wrong);
}

// None of them reaches beyond the arrays, where the process would end.
TEST(KvAppend, RejectsWrongKernels) {
  Dims size = kRagged;
  size.set("B", 8);
  ProofRig append_rig(kv_append(), Dtype::bfloat16, {size});
  EXPECT_EQ(prove_append_with(append_rig, "", "").status, spec::Status::benchmarked);
  const std::pair<const char*, const char*> mutants[] = {
      {"rows.count * bytes)", "rows.count * bytes + (rows.b < 7 ? kElement : 0))"},
      {"ragged] ? b : 0", "ragged] ? (b == 2 ? 0 : b) : 0"},
      {"offset > s - all", "offset > s - all + (b < 7)"},
      {"offset < 0 ||", "offset < -1 || (offset < 0 && b == 0) ||"},
      {"rows.h * strides[1]", "rows.h * width"},
      {"append(a, 1,", "append(a, 0,"}};
  for (const auto& [right, wrong] : mutants) {
    const Proof proof = prove_append_with(append_rig, right, wrong);
    EXPECT_TRUE(proof.status == spec::Status::wrong || proof.status == spec::Status::unstable)
        << wrong << ": " << name_of(proof.status) << " " << proof.reason;
  }
}

// Offsets of each row of the batch, or one of all.
TEST(KvAppend, IsRightForBatchesOf1To8) {
  std::vector<Dims> sizes;
  for (int64_t batch = 1; batch <= 8; ++batch)
    for (const int64_t ragged : {0, 1}) {
      sizes.push_back(kRagged);
      sizes.back().set("B", batch);
      sizes.back().set("ragged", ragged);
    }
  for (const Dtype t : spec::float_dtypes()) {
    ProofRig append_rig(kv_append(), t, sizes);
    const Proof proof = prove_append_with(append_rig, "", "");
    EXPECT_EQ(proof.status, spec::Status::benchmarked) << proof.reason;
  }
}

// A loaded kernel and calls of it at one size.
struct Loaded {
  ProofRig append_rig{kv_append(), Dtype::float32, {kRagged}};
  spec::Setting knobs = spec::default_setting(append_rig.space(append_on_cpu()));
  spec::Candidate candidate = append_rig.candidate(append_on_cpu(), knobs);
  std::shared_ptr<devices::Program> program =
      append_rig.device().load(append_rig.device().compile(candidate, 60), candidate);

  spec::Op::Arrays call(const spec::Op::Arrays& inputs, const Dims& dims) const {
    const devices::Call call =
        devices::make_call(kv_append(), append_on_cpu(), Dtype::float32, dims, knobs, {});
    std::vector<spec::Shape> shapes;
    for (const spec::ArraySpec& output : call.outputs) shapes.push_back(output.shape);
    return program->call(inputs, shapes, call);
  }
};

// What three calls in a row make of a cache of zeros.
struct Chain {
  mx::array keys = mx::zeros({4, 2, 12, 24}), values = mx::zeros({4, 2, 12, 16});
  bool in_place = false;
};

Chain chain_of_calls(const Loaded& kernel) {
  Chain chain;
  mx::eval(chain.keys, chain.values);
  const void* const at_keys = chain.keys.data<char>();
  const void* const at_values = chain.values.data<char>();
  for (int step = 0; step < 3; ++step) {
    // New rows as models make them: a transposed view.
    const mx::array new_keys = mx::transpose(mx::full({4, 3, 2, 24}, step + 1.0f), {0, 2, 1, 3});
    const mx::array new_values = mx::transpose(mx::full({4, 3, 2, 16}, step + 5.0f), {0, 2, 1, 3});
    const mx::array offset = mx::array({3 * step, 0, 9 - step, -1});
    auto made = kernel.call(
        {std::move(chain.keys), std::move(chain.values), new_keys, new_values, offset}, kRagged);
    chain.keys = std::move(made[0]), chain.values = std::move(made[1]);
  }
  mx::eval(chain.keys, chain.values);
  chain.in_place = chain.keys.data<char>() == at_keys && chain.values.data<char>() == at_values;
  return chain;
}

// A small cache is copied where MLX's thread, which the system may have stopped, does not let go of
// it within some microseconds.
TEST(KvAppend, ReusesTheCacheThroughAChainOfCalls) {
  const Loaded kernel;
  bool in_place = false;
  for (int attempt = 0; attempt < 10 && !in_place; ++attempt) {
    const Chain chain = chain_of_calls(kernel);
    in_place = chain.in_place;
    const auto key = [&](int b, int row) {
      return chain.keys.data<float>()[(b * 2 * 12 + row) * 24];
    };
    EXPECT_EQ(key(0, 2), 1);
    EXPECT_EQ(key(0, 8), 3);
    EXPECT_EQ(key(0, 9), 0);
    EXPECT_EQ(key(1, 0), 3);
    EXPECT_EQ(key(2, 11), 1);
    EXPECT_EQ(key(2, 7), 3);
    EXPECT_EQ(key(3, 11), 0);
  }
  EXPECT_TRUE(in_place);
}

TEST(KvAppend, CopiesACacheThatIsStillHeld) {
  const Loaded kernel;
  const mx::array keys = mx::zeros({4, 2, 12, 24}), values = mx::zeros({4, 2, 12, 16});
  mx::eval(keys, values);
  auto made = kernel.call(
      {keys, values, mx::ones({4, 2, 3, 24}), mx::ones({4, 2, 3, 16}), mx::array({0, 1, 2, 3})},
      kRagged);
  mx::eval(made);
  EXPECT_NE(made[0].data<char>(), keys.data<char>());
  EXPECT_EQ(keys.data<float>()[0], 0);
  EXPECT_EQ(made[0].data<float>()[0], 1);
}

// Large outputs come from a pool, whose memory MLX would never give up.
TEST(KvAppend, ReusesALargeCacheThatItCopiedOnce) {
  const Loaded kernel;
  Dims large = kRagged;
  large.set("S", 4096);
  const mx::array held = mx::zeros({4, 2, 4096, 24}), values = mx::zeros({4, 2, 4096, 16});
  const auto next = [&](mx::array keys) {
    auto made = kernel.call({std::move(keys), values, mx::ones({4, 2, 3, 24}),
                             mx::ones({4, 2, 3, 16}), mx::array({0, 1, 2, 3})},
                            large);
    mx::eval(made);
    mx::synchronize();
    return made[0];
  };
  mx::eval(held, values);
  mx::array keys = next(held);
  const void* const at = keys.data<char>();
  EXPECT_NE(at, held.data<char>());
  keys = next(std::move(keys));
  EXPECT_EQ(keys.data<char>(), at);
}

TEST(KvAppend, TakesAnEmptyBatch) {
  const Loaded kernel;
  Dims none = kRagged;
  none.set("B", 0);
  auto made =
      kernel.call({mx::zeros({0, 2, 12, 24}), mx::zeros({0, 2, 12, 16}), mx::zeros({0, 2, 3, 24}),
                   mx::zeros({0, 2, 3, 16}), mx::zeros({0}, mx::int32)},
                  none);
  mx::eval(made);
  EXPECT_EQ(made[0].shape(), (mx::Shape{0, 2, 12, 24}));
}

}  // namespace
}  // namespace mlx_kd::evaluate::kv_append_test

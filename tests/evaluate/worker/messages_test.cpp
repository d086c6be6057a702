#include "mlx_kd/evaluate/worker/messages.h"

#include <gtest/gtest.h>

#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::evaluate {
namespace {

// A worker finds the same key of an object, and binds the same names, as the process that compiled.
TEST(Messages, CarryAllOfACandidate) {
  for (const spec::Op& op : kernels::all_ops())
    for (const spec::Variant& variant : op.variants) {
      const spec::Dims size = spec::complete(op, op.suites.front().sizes.front());
      const spec::Space space = variant.space(spec::Dtype::float16, {});
      const spec::Candidate sent = spec::make_candidate(op, variant, spec::Dtype::float16,
                                                        spec::default_setting(space), space, size);
      const spec::Candidate got = candidate_from_json(to_json(sent));
      EXPECT_EQ(got.id(), sent.id());
      EXPECT_EQ(got.variant, sent.variant);
      EXPECT_EQ(got.dtype, sent.dtype);
      EXPECT_EQ(got.knobs, sent.knobs);
      EXPECT_EQ(got.dim_names, sent.dim_names);
      EXPECT_EQ(got.scalar_names, sent.scalar_names);
      EXPECT_EQ(got.updates, sent.updates);
      EXPECT_FALSE(got.dim_names.empty());
    }
}

}  // namespace
}  // namespace mlx_kd::evaluate

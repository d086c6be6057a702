// The device metal from kd run to a pinned call, with a stand-in for metal_kernel.
#include "mlx_kd/kernels/metal_form.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/runtime/pins/pin_devices.h"
#include "tests/runtime/pinned.h"
#include "tests/support/metal_stand_in.h"

namespace mlx_kd::runtime {
namespace {

const spec::Dims kSizes[] = {{{"rows", 2}, {"D", 64}}, {{"rows", 5}, {"D", 160}}};

const std::shared_ptr<const devices::Device>& stand_in() {
  static const auto device = devices::metal::make_metal_device(tests::stand_in_host());
  return device;
}

// A pin of the Metal variant of rmsnorm, as a run on that device writes it.
packs::Entry entry_for(const spec::Dims& dims) {
  const spec::Op& op = kernels::find_op("rmsnorm");
  const auto variant =
      std::find_if(op.variants.begin(), op.variants.end(),
                   [](const spec::Variant& one) { return one.language == "metal"; });
  const spec::Space space = variant->space(spec::Dtype::float32, {});
  const auto candidate =
      spec::make_candidate(op, *variant, spec::Dtype::float32, spec::default_setting(space), space,
                           spec::complete(op, op.suites[0].sizes[0]));
  packs::Measured measured{dims, {}, "test", {{"eps", 1e-6}}};
  measured.metrics.kernel_us = measured.metrics.latency_us = measured.metrics.speedup_vs_ref = 2;
  return packs::make_entry(
      kernels::body_form(op, candidate, dims, spec::default_scalars(op)).value(), measured,
      stand_in()->id(), mx::version());
}

class MetalPins : public Pinned {};

TEST_F(MetalPins, ServeCallsOfSeveralSizes) {
  const std::string pack = write_pack({entry_for(kSizes[0]), entry_for(kSizes[1])});
  enable(pack);  // a program whose metal is not the stand-in takes none
  EXPECT_TRUE(stats().pins.empty()) << to_json(stats());
  EXPECT_EQ(stats().skipped.size(), 2u);

  const AddedEngine engine({stand_in(), mx::Device::cpu});
  reset_settings();
  enable(pack);
  for (const spec::Dims& dims : kSizes) {
    const int rows = static_cast<int>(dims.at("rows")), d = static_cast<int>(dims.at("D"));
    const mx::array x = mx::random::normal({rows, d}), weight = mx::random::normal({d});
    const uint64_t before = stats().hits;
    const mx::array y = rmsnorm(x, weight);
    EXPECT_EQ(stats().hits, before + 1) << to_json(stats());
    EXPECT_TRUE(mx::allclose(y, mx::fast::rms_norm(x, weight, 1e-6f), 1e-5, 1e-5).item<bool>());
  }
}

// Every candidate is proved and timed at both sizes, and compared with MLX at both: with the shapes
// of the suite's first size at every size, as the device once had them, none would be right. What
// is pinned, which depends on the machine, is pinned for the stand-in.
TEST_F(MetalPins, AreLookedForByARun) {
  const auto made = tests::run_cli({"run",
                                    "--op",
                                    "rmsnorm",
                                    "--device",
                                    "metal",
                                    "--dtype",
                                    "float32",
                                    "--shapes",
                                    "rows=2,D=64",
                                    "--shapes",
                                    "rows=5,D=160",
                                    "--budget",
                                    "2",
                                    "--batch",
                                    "2",
                                    "--finalists",
                                    "1",
                                    "--claims",
                                    "quick",
                                    "--iters",
                                    "5",
                                    "--quiet",
                                    "--out",
                                    (folder_ / "run").string()},
                                   {.program = MLX_KD_METAL_STAND_IN});
  ASSERT_EQ(made.code, 0) << made.err;
  const std::string records = tests::text_of(folder_ / "run/run.ndjson");
  EXPECT_NE(records.find("\"status\":\"benchmarked\""), std::string::npos) << records;
  for (const char* status : {"wrong", "launch_error", "unstable"})
    EXPECT_EQ(records.find("\"status\":\"" + std::string(status) + "\""), std::string::npos)
        << records;
  const std::string meta = tests::text_of(folder_ / "run/run_meta.json");
  EXPECT_NE(meta.find(tests::kStandInArch), std::string::npos) << meta;
  const packs::Pack pack = packs::read_pack(folder_ / "run/best_kernels.json");
  for (const packs::Entry& entry : pack.entries) {
    EXPECT_EQ(entry.key.device_arch, tests::kStandInArch);
    EXPECT_GT(entry.metrics.speedup_lo, 1);
  }
}

}  // namespace
}  // namespace mlx_kd::runtime

// Packs of the first Python version: schemas 1 and 2, with Metal bodies, on a device that takes
// them.
#include <cmath>

#include "mlx_kd/runtime/pins/pin_devices.h"
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

// A device that takes Metal bodies and "runs" one by filling the outputs with the number in its
// text, as the devices that only offer call() do.
class FillProgram final : public devices::Program {
 public:
  explicit FillProgram(float value) : value_(value) {}
  void launch(const std::vector<const void*>&, const std::vector<void*>&,
              const devices::Call&) const override {}
  std::vector<mx::array> call(const std::vector<mx::array>&, const std::vector<spec::Shape>& shapes,
                              const devices::Call& call) const override {
    last_launch() = call.launch();
    std::vector<mx::array> outputs;
    for (const auto& shape : shapes)
      outputs.push_back(mx::full(mx::Shape(shape.begin(), shape.end()), value_, mx::float16));
    return outputs;
  }
  static spec::Launch& last_launch() {
    static spec::Launch launch;
    return launch;
  }

 private:
  float value_;
};

class FillDevice final : public devices::Device {
 public:
  const spec::DeviceId& id() const override { return id_; }
  std::vector<std::string> languages() const override { return {"metal"}; }
  devices::Artifact compile(const spec::Candidate& candidate, double) const override {
    devices::Artifact artifact;
    artifact.ok = candidate.source.starts_with("fill ");
    artifact.error = "program_source:1:1: error: expected a number";
    return artifact;
  }
  std::shared_ptr<devices::Program> load(const devices::Artifact&,
                                         const spec::Candidate& candidate) const override {
    return std::make_shared<FillProgram>(std::stof(candidate.source.substr(5)));
  }

 private:
  spec::DeviceId id_{"metal", "applegpu_g99x", "Apple M99", {}, base::Json::object()};
};

class FirstVersion : public Pinned {
 protected:
  static base::Json entry(const base::Json& shape, const std::string& body, double eps = 1e-6) {
    return {{"key",
             {{"op_name", "rmsnorm"},
              {"mlx_version", mx::version()},
              {"device_arch", "applegpu_g99x"},
              {"device_name", "Apple M99"},
              {"dtype", "float16"},
              {"shape_signature", shape}}},
            {"candidate_id", "rmsnorm_" + body.substr(5)},
            {"func_name", "kk_rmsnorm"},
            {"metal_source", body},
            {"inputs_spec", ports(2)},
            {"outputs_spec", ports(1)},
            {"template_params", {{"eps", eps}}},
            {"launch_params", {{"threadgroup_x", 128}, {"launch_kind", "rmsnorm_rows_tg"}}},
            {"source_hash", ""},
            {"metrics", {{"latency_us", 3.0}}}};
  }
  void use(const base::Json& pack) { enable(write("first.json", pack.dump())); }
  void use_second(const std::vector<base::Json>& entries) {
    use({{"schema_version", "2"}, {"runtime", base::Json::object()}, {"entries", entries}});
  }
  static float norm(const mx::Shape& shape, double eps = 1e-6, mx::Dtype dtype = mx::float16) {
    return std::round(first(rmsnorm(all_ones(shape, dtype), all_ones({shape.back()}, dtype), eps)));
  }

 private:
  AddedEngine engine_{{std::make_shared<FillDevice>(), mx::Device::cpu}};
};

TEST_F(FirstVersion, ItsEntriesMatchTheirSizeAndTheEpsInTheirSource) {
  use_second({entry({{"rows", 2}, {"D", 8}}, "fill 42", 1e-5)});
  ASSERT_EQ(stats().pins.size(), 1u) << to_json(stats());
  EXPECT_EQ(norm({2, 8}, 1e-5), 42);
  EXPECT_EQ(norm({2, 8}, 1e-6), 1);
  EXPECT_EQ(norm({3, 8}, 1e-5), 1);
  EXPECT_EQ(norm({2, 8}, 1e-5, mx::float32), 1);
  EXPECT_EQ(FillProgram::last_launch().grid[0], 2 * 128);
  EXPECT_EQ(FillProgram::last_launch().group[0], 128);
  expect_part(
      explain("rmsnorm", {all_ones({2, 8}, mx::float16), all_ones({8}, mx::float16)}).differs,
      "eps: 1e-06 here, 1e-05 in the pin");
}

TEST_F(FirstVersion, AnEntryWithoutItsEpsIsSkipped) {
  base::Json without = entry({{"rows", 2}, {"D", 8}}, "fill 42");
  without["template_params"] = base::Json::object();
  use_second({without});
  EXPECT_EQ(norm({2, 8}), 1);
  expect_part(stats().skipped.at(0).reason, "does not say which eps");
}

TEST_F(FirstVersion, UnknownIsHonouredInSchemaOneAloneAndToldOnce) {
  base::Json second = entry({{"rows", 2}, {"D", 8}}, "fill 42");
  second["key"]["device_name"] = second["key"]["device_arch"] = "unknown";
  use_second({second});
  EXPECT_EQ(norm({2, 8}), 1);
  base::Json old = entry({}, "fill 43");
  old.erase("key");
  old["shape_signatures"] = {{{"rows", 2}, {"D", 8}}, {{"rows", 4}, {"D", 8}}};
  old["supported_dtypes"] = {"float16"};
  testing::internal::CaptureStderr();
  use({{"schema_version", "1"}, {"ops", {{"rmsnorm", old}}}});
  reload();
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(norm({2, 8}), 43);
  EXPECT_EQ(norm({4, 8}), 43);
  EXPECT_EQ(norm({3, 8}), 1);
  expect_part(said, "is of schema 1");
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1);
}

TEST_F(FirstVersion, AnEntryOfSchemaOneWithoutSizesServesAnyOfThem) {
  base::Json old = entry({}, "fill 44");
  old.erase("key");
  old["supported_dtypes"] = {"float16"};
  use({{"schema_version", "1"}, {"ops", {{"rmsnorm", old}}}});
  EXPECT_EQ(norm({2, 8}), 44);
  EXPECT_EQ(norm({3, 5, 16}), 44);
  EXPECT_EQ(FillProgram::last_launch().grid[0], 15 * 128);
  EXPECT_EQ(norm({2, 8}, 1e-5), 1);
}

TEST_F(FirstVersion, ABodyThatDoesNotCompileIsDropped) {
  use_second({entry({{"rows", 2}, {"D", 8}}, "fill42")});
  EXPECT_EQ(norm({2, 8}), 1);
  EXPECT_EQ(stats().pins.at(0).state, "dropped");
  expect_part(stats().pins.at(0).reason, "expected a number");
}

TEST_F(FirstVersion, GradientsGoThroughMlxsOperator) {
  use_second({entry({{"rows", 2}, {"D", 8}}, "fill 42")});
  const auto x = mx::astype(mx::random::normal({2, 8}), mx::float16),
             w = all_ones({8}, mx::float16);
  const auto pinned = [](const std::vector<mx::array>& in) -> std::vector<mx::array> {
    return {rmsnorm(in[0], in[1])};
  };
  const auto plain = [](const std::vector<mx::array>& in) -> std::vector<mx::array> {
    return {mx::fast::rms_norm(in[0], in[1], 1e-6f)};
  };
  const std::vector<mx::array> in = {x, w}, one = {all_ones({2, 8}, mx::float16)};
  const auto [y, grads] = mx::vjp(pinned, in, one);
  EXPECT_EQ(first(y[0]), 42);
  EXPECT_TRUE(same_bits(grads[0], mx::vjp(plain, in, one).second[0]));
}

TEST_F(FirstVersion, ADeviceThatRunsOnDefaultStreamsAloneLeavesOthersToMlx) {
  use_second({entry({{"rows", 2}, {"D", 8}}, "fill 45")});
  const auto x = all_ones({2, 8}, mx::float16), w = all_ones({8}, mx::float16);
  EXPECT_EQ(std::round(first(rmsnorm(x, w, 1e-6, mx::new_stream(mx::Device::cpu)))), 1);
  EXPECT_EQ(norm({2, 8}), 45);
  EXPECT_EQ(stats().fallbacks, 1u);
}

TEST_F(FirstVersion, DamagedLaunchesAreSkipped) {
  const std::pair<base::Json, std::string> cases[] = {
      {{{"threadgroup_x", int64_t(1) << 31}}, "threadgroup_x"},
      {{{"threadgroup_x", -4}}, "threadgroup_x is -4"},
      {{{"threadgroup_x", 1.5}}, "threadgroup_x is 1.5"},
      {{{"threadgroup_x", 2048}}, "more than 1024 threads"},
      {{{"grid_x", 0}}, "grid_x is 0"},
  };
  for (const auto& [launch, reason] : cases) {
    base::Json damaged = entry({{"rows", 2}, {"D", 8}}, "fill 42");
    damaged["launch_params"] = launch;
    damaged["launch_params"]["launch_kind"] = launch.contains("grid_x") ? "" : "rmsnorm_rows_tg";
    if (launch == base::Json{{"threadgroup_x", 2048}})
      damaged["key"]["shape_signature"]["rows"] = 4;
    use_second({damaged});
    EXPECT_EQ(stats().pins.size(), 0u) << reason;
    expect_part(stats().skipped.at(0).reason, reason);
  }
}

}  // namespace
}  // namespace mlx_kd::runtime

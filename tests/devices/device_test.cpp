#include "mlx_kd/devices/device.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/doctor.h"

namespace mlx_kd::devices {
namespace {

TEST(DeviceTable, ListsEveryFolder) {
  std::vector<std::string> kinds;
  for (const DeviceReport& report : list_devices()) {
    kinds.push_back(report.kind);
    EXPECT_FALSE(report.detail.empty()) << report.kind;
  }
  EXPECT_NE(std::find(kinds.begin(), kinds.end(), "cpu"), kinds.end());
  EXPECT_NE(std::find(kinds.begin(), kinds.end(), "null"), kinds.end());
}

TEST(DeviceTable, OpensWhatItListsAsAvailable) {
  for (const DeviceReport& report : list_devices()) {
    if (!report.available) continue;
    EXPECT_EQ(open_device(report.kind)->id().kind, report.kind);
  }
}

TEST(DeviceTable, AnUnknownKindIsMisuseThatNamesTheKnownOnes) {
  try {
    open_device("abacus");
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    EXPECT_NE(std::string(error.what()).find("'cpu'"), std::string::npos) << error.what();
  }
}

// Without 16-bit floats and bytes.
class Abacus final : public Device {
 public:
  const spec::DeviceId& id() const override { return id_; }
  std::vector<std::string> languages() const override { return {"cpp"}; }
  Artifact compile(const spec::Candidate&, double) const override { return {}; }
  std::shared_ptr<Program> load(const Artifact&, const spec::Candidate&) const override {
    return nullptr;
  }
  bool lacks(spec::Dtype type) const override {
    return type == spec::Dtype::bfloat16 || type == spec::Dtype::uint8;
  }

 private:
  spec::DeviceId id_{"abacus", "beads", "Abacus", {}, base::Json::object()};
};

std::string refusal_of(const spec::Op& op, spec::Dtype t) {
  try {
    check_types(Abacus(), op, t, {{"n", 4}});
    return "";
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    return error.what();
  }
}

TEST(DeviceTypes, ThatItLacksAreNamedWithTheirPortWhenItIsOpened) {
  const auto shape = [](const spec::Dims& dims) { return spec::Shape{dims.at("n")}; };
  spec::Op op;
  op.name = "count";
  op.inputs = {{"x", shape}};
  op.outputs = {{"y", shape}};
  EXPECT_EQ(refusal_of(op, spec::Dtype::float32), "");
  EXPECT_EQ(refusal_of(op, spec::Dtype::bfloat16),
            "[devices] device 'abacus' lacks bfloat16, the type of 'x' of op 'count': choose "
            "another type or device");
  op.outputs = {{"y", shape, spec::Dtype::uint8}};
  EXPECT_EQ(refusal_of(op, spec::Dtype::float32),
            "[devices] device 'abacus' lacks uint8, the type of 'y' of op 'count': choose another "
            "device");
}

TEST(Findings, EachSaysWhatWasFoundAndFailuresSayWhatToDo) {
  for (const Finding& finding : examine_machine()) {
    EXPECT_FALSE(finding.topic.empty());
    EXPECT_FALSE(finding.text.empty()) << finding.topic;
    if (finding.level == Level::fail) {
      EXPECT_FALSE(finding.advice.empty()) << finding.topic;
    }
  }
}

}  // namespace
}  // namespace mlx_kd::devices

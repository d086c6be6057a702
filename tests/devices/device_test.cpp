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

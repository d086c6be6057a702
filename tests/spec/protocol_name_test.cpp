#include "mlx_kd/spec/protocol_name.h"

#include <gtest/gtest.h>

namespace mlx_kd::spec {
namespace {

TEST(ProtocolName, HashesOfTheDefaultSettingsAreVersion2) {
  EXPECT_EQ(protocol_name("28850ad635fe7233"), "2");
  EXPECT_EQ(protocol_name("c537d62d1eff1363"), "2-device-clock");
}

TEST(ProtocolName, EveryOtherTextIsItsOwnName) {
  for (const char* text : {"", "v1", "null", "2", "2+9f31c2aa", "2-device-clock",
                           "0123456789abcdef", "28850AD635FE7233", "28850ad635fe7233 "})
    EXPECT_EQ(protocol_name(text), text);
}

}  // namespace
}  // namespace mlx_kd::spec

#include "mlx_kd/shapes/curl.h"

#include <gtest/gtest.h>

namespace mlx_kd::shapes {
namespace {

TEST(Headers, TheLastAnswerCountsButTheHubsOwnNamesCountOnce) {
  const Headers headers = parse_headers(
      "HTTP/1.1 302 Found\r\nX-Repo-Commit: abc\r\nContent-Length: 10\r\nETag: \"one\"\r\n\r\n"
      "HTTP/2 200 \r\nx-repo-commit: other\r\ncontent-length: 812\r\netag: \"two\"\r\n\r\n");
  EXPECT_EQ(headers.status, 200);
  EXPECT_EQ(headers.value("x-repo-commit"), "abc");
  EXPECT_EQ(headers.value("content-length"), "812");
  EXPECT_EQ(headers.value("etag"), "\"two\"");
  EXPECT_EQ(headers.value("location"), "");
}

TEST(Headers, WhatIsNoAnswerHasNoStatus) {
  EXPECT_EQ(parse_headers("").status, 0);
  EXPECT_EQ(parse_headers("HTTP/").status, 0);
  EXPECT_EQ(parse_headers("curl: (6) Could not resolve host: x\n").status, 0);
}

TEST(CurlResult, TheMessageIsCurlsOwn) {
  CurlResult result;
  result.exit_code = 6;
  result.output = "HTTP/1.1 100 Continue\ncurl: (6) Could not resolve host: x\n";
  EXPECT_EQ(result.message(), "Could not resolve host: x");
  EXPECT_FALSE(result.is_transient());
  result.output = "";
  EXPECT_EQ(result.message(), "curl ended with 6");
  result.exit_code = 28;
  EXPECT_EQ(result.message(), "no answer in time");
  EXPECT_TRUE(result.is_transient());
}

}  // namespace
}  // namespace mlx_kd::shapes

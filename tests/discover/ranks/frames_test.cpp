// Frames between ranks: what comes in pieces comes out whole, and nothing else does.
#include "mlx_kd/discover/ranks/frames.h"

#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/discover/ranks/protocol.h"

namespace mlx_kd::discover {
namespace {

std::string with_length(size_t length, const std::string& text) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(length >> shift));
  return bytes + text;
}

TEST(Frames, ComeOutWholeHoweverTheyArrive) {
  const base::Json first = {{"kind", "ready"}, {"paced", true}}, second = {{"kind", "beat"}};
  const std::string bytes = frame_bytes(first) + frame_bytes(second);
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    FrameReader reader;
    std::vector<base::Json> found;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      reader.take(std::string_view(bytes).substr(at, piece));
      while (const auto frame = reader.next()) found.push_back(*frame);
    }
    EXPECT_EQ(found, (std::vector<base::Json>{first, second})) << piece;
  }
}

TEST(Frames, ATextThatIsTooLongIsCutAndTheFrameStaysReadable) {
  FrameReader reader;
  reader.take(frame_bytes({{"kind", "failed"}, {"why", std::string(100000, '\n')}}));
  const auto frame = reader.next();
  ASSERT_TRUE(frame);
  EXPECT_LT(frame->at("why").get<std::string>().size(), kMaxFrame);
}

TEST(Frames, BytesThatAreNoFramesAreRefused) {
  for (const std::string& bytes :
       {with_length(kMaxFrame + 1, ""), with_length(0xffffffff, "x"), with_length(2, "[]"),
        with_length(2, "{}"), with_length(3, "{\"k"), with_length(10, "{\"kind\":1}"),
        std::string("GET / HTTP/1.1\r\n")}) {
    FrameReader reader;
    reader.take(bytes);
    EXPECT_THROW(reader.next(), base::Error) << bytes;
  }
}

TEST(Frames, NoiseNeverDoesMoreThanBeRefused) {
  base::Random random(7);
  for (int trial = 0; trial < 5000; ++trial) {
    std::string bytes = frame_bytes({{"kind", "hello"}, {"rank", trial}});
    for (uint64_t change = random.below(4); change > 0; --change)
      bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
    FrameReader reader;
    reader.take(bytes);
    try {
      while (const auto frame = reader.next()) EXPECT_TRUE(frame->at("kind").is_string());
    } catch (const base::Error&) {
      continue;
    }
  }
}

// RFC 4231, test cases 1, 2 and 6.
TEST(Proofs, AreHmacSha256) {
  EXPECT_EQ(hmac_hex(std::string(20, '\x0b'), "Hi There"),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(hmac_hex("Jefe", "what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(
      hmac_hex(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First"),
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(Proofs, AreComparedWhole) {
  EXPECT_TRUE(same_proof("abcd", "abcd"));
  EXPECT_FALSE(same_proof("abcd", "abce"));
  EXPECT_FALSE(same_proof("abcd", "abc"));
  EXPECT_FALSE(same_proof("", "a"));
}

TEST(Proofs, SecretsDiffer) {
  EXPECT_EQ(random_hex(32).size(), 64u);
  EXPECT_NE(random_hex(32), random_hex(32));
}

}  // namespace
}  // namespace mlx_kd::discover

// Frames from C++: the layout of a stream, arrays that are strided, what is refused.
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <cstring>
#include <vector>

#include "mlx_kd/base/error.h"
#include "mlx_kd/runtime/wire/grpc_tensor.h"
#include "mlx_kd/runtime/wire/message.h"

namespace mlx_kd::runtime::wire {
namespace {

namespace mx = mlx::core;

std::vector<std::byte> written(const Writer& writer) {
  std::vector<std::byte> bytes(static_cast<size_t>(writer.size()));
  writer.write_to(bytes.data());
  return bytes;
}

// The payload of the first frame.
Bytes payload(const std::vector<std::byte>& stream) {
  const Bytes all(stream);
  return all.subspan(4, static_cast<size_t>(frame_length(all.first(4), {}, "frame 0")));
}

TEST(Wire, AStridedSliceTravelsInOnePieceAndComesBack) {
  // [1, heads, tokens, width] cut from a larger array, sent as (tokens, heads, width).
  const mx::array base = mx::reshape(mx::arange(0, 2 * 9 * 5, 1, mx::float32), {1, 2, 9, 5});
  mx::array cut = mx::slice(base, {0, 0, 2, 0}, {1, 2, 8, 4});
  const Tensor sent = with_axes(tensor_of(cut), {2, 1, 3});
  Writer writer;
  write(writer, KVChunk{3, sent, sent});
  const std::vector<std::byte> stream = written(writer);
  const auto chunk = std::get<KVChunk>(read_message(payload(stream), {}, "frame 0"));
  EXPECT_EQ(chunk.layer_idx, 3);
  EXPECT_EQ(chunk.keys.shape, (std::vector<int64_t>{6, 2, 4}));
  mx::array back = mx::transpose(to_array(chunk.values), {1, 0, 2});
  EXPECT_TRUE(mx::array_equal(back, mx::squeeze(cut, 0)).item<bool>());
}

TEST(Wire, ALargeTensorIsCopiedWholeFromAnyStart) {
  const mx::array base = mx::reshape(mx::arange(0, 3 * 700 * 300, 1, mx::int32), {3, 700, 300});
  mx::array turned = mx::transpose(base, {1, 0, 2});
  turned.eval();
  const Tensor tensor = tensor_of(turned);
  const mx::array wanted = mx::contiguous(turned);
  for (const size_t shift : {0, 1, 3, 63}) {
    std::vector<std::byte> to(static_cast<size_t>(tensor.bytes()) + shift + 1, std::byte{0x5a});
    copy(tensor, to.data() + shift);
    mx::eval(wanted);
    EXPECT_EQ(std::memcmp(to.data() + shift, wanted.data<int32_t>(), wanted.nbytes()), 0);
    EXPECT_EQ(to.back(), std::byte{0x5a});
    for (size_t i = 0; i < shift; ++i) EXPECT_EQ(to[i], std::byte{0x5a});
  }
}

TEST(Wire, StatesKeepTheirTypesAndNesting) {
  mx::array codes = mx::ones({2, 3}, mx::uint32);
  const State state = std::vector<State>{State(),
                                         true,
                                         int64_t(-70000),
                                         0.5,
                                         std::string("ring"),
                                         std::vector<State>{tensor_of(codes), int64_t(1) << 40}};
  Writer writer;
  write(writer, CacheState{0, "QuantizedKVCache", state});
  const std::vector<std::byte> stream = written(writer);
  const auto cache = std::get<CacheState>(read_message(payload(stream), {}, "frame 0"));
  const auto& parts = std::get<std::vector<State>>(cache.state);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(parts[0]));
  EXPECT_TRUE(std::get<bool>(parts[1]));
  EXPECT_EQ(std::get<int64_t>(parts[2]), -70000);
  EXPECT_EQ(std::get<double>(parts[3]), 0.5);
  EXPECT_EQ(std::get<std::string>(parts[4]), "ring");
  const auto& inner = std::get<std::vector<State>>(parts[5]);
  EXPECT_EQ(std::get<Tensor>(inner[0]).dtype, "uint32");
  EXPECT_EQ(std::get<int64_t>(inner[1]), int64_t(1) << 40);
}

TEST(Wire, AHeaderMayLeaveOutWhatHasADefault) {
  Writer writer;
  writer.map(1);
  writer.text("num_layers");
  writer.integer(5);
  const std::vector<std::byte> bytes = written(writer);
  const Header header = read_header(bytes, {}, "frame 0");
  EXPECT_EQ(header.num_layers, 5);
  EXPECT_EQ(header.dtype, "bfloat16");
}

TEST(Wire, ErrorsNameTheFrameAndTheMessage) {
  mx::array x = mx::ones({2, 1, 4});
  Writer writer;
  write(writer, KVChunk{1, tensor_of(x), tensor_of(x)});
  std::vector<std::byte> stream = written(writer);
  Bytes cut = payload(stream);
  try {
    read_message(cut.first(cut.size() - 1), {}, "frame 7");
    FAIL() << "a frame that is cut short was read";
  } catch (const base::Error& error) {
    EXPECT_EQ(std::string(error.what()), "[wire] frame 7: it ends 1 bytes too early");
    EXPECT_EQ(error.exit_code(), 2);
  }
  mx::array narrow = mx::ones({2, 1, 3});
  EXPECT_THROW(write(writer, KVChunk{1, tensor_of(x), tensor_of(narrow)}), base::Error);
  Limits limits;
  limits.frame_bytes = 8;
  EXPECT_THROW(frame_length(Bytes(stream).first(4), limits, "frame 0"), base::Error);
  EXPECT_THROW(frame_length(Bytes(stream).first(3), {}, "frame 0"), base::Error);
}

TEST(Wire, LengthsWhoseProductOverflowsAreRefusedOrOfAnArrayWithoutElements) {
  // Field 2, a shape: lengths of 2^59 and 16.
  const std::vector<uint8_t> older = {0x12, 10,   0x80, 0x80, 0x80, 0x80, 0x80,
                                      0x80, 0x80, 0x80, 0x08, 0x10, 0x1a, 7,
                                      'f',  'l',  'o',  'a',  't',  '3',  '2'};
  EXPECT_THROW(read_grpc_tensor(std::as_bytes(std::span(older)), {}), base::Error);
  constexpr int64_t kLong = (int64_t(1) << 31) - 1;
  const Tensor empty = contiguous("float32", {0, kLong, kLong, kLong}, nullptr);
  EXPECT_EQ(empty.bytes(), 0);
  EXPECT_EQ(empty.strides, (std::vector<int64_t>{1, 1, 1, 1}));
  EXPECT_EQ(contiguous("float32", {2, 3, 5}, nullptr).strides, (std::vector<int64_t>{15, 5, 1}));
}

TEST(Wire, TheOlderTensorComesBack) {
  mx::array x = mx::transpose(mx::reshape(mx::arange(0, 12, 1, mx::float32), {3, 4}));
  const std::string message = write_grpc_tensor(tensor_of(x));
  const Tensor tensor = read_grpc_tensor(std::as_bytes(std::span(message)), {});
  EXPECT_TRUE(mx::array_equal(to_array(tensor), x).item<bool>());
}

}  // namespace
}  // namespace mlx_kd::runtime::wire

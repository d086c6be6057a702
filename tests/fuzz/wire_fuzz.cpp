// rooms: runtime
// Frames of any content: a message whose tensors lie inside of the frame, or an error.
#include <cstdlib>
#include <vector>

#include "mlx_kd/base/error.h"
#include "mlx_kd/runtime/wire/grpc_tensor.h"
#include "mlx_kd/runtime/wire/message.h"
#include "tests/fuzz/mutations.h"

namespace {

namespace wire = mlx_kd::runtime::wire;
using mlx_kd::fuzz::Choices;
using mlx_kd::fuzz::try_to;

std::vector<std::byte> bytes_of(wire::Writer& writer) {
  std::vector<std::byte> result(static_cast<size_t>(writer.size()));
  writer.write_to(result.data());
  return result;
}

// One sound frame of each kind, without the four bytes of its length.
std::vector<std::byte> sound(size_t kind) {
  wire::Writer writer;
  switch (kind) {
    case 0:
      write(writer, wire::Header{"request", "model", 2});
      break;
    case 1:
      write(writer, wire::PrefillRequest{"request", "model", {1, 2, 70000}});
      break;
    case 2:
      write(writer, wire::Message(wire::Done{12}));
      break;
    case 3:
      write(writer, wire::Message(wire::ErrorMessage{7, "no"}));
      break;
    default:
      write(writer,
            wire::Message(wire::CacheState{
                1, "KVCache", std::vector<wire::State>{int64_t(3), std::string("x"), 0.5, true}}));
  }
  auto frame = bytes_of(writer);
  frame.erase(frame.begin(), frame.begin() + 4);
  return frame;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Choices choices(data, size);
  std::vector<std::byte> frame;
  if (choices.below(3) == 0) {
    frame.assign(reinterpret_cast<const std::byte*>(data),
                 reinterpret_cast<const std::byte*>(data) + size);
  } else {
    frame = sound(choices.below(5));
    for (int i = 0; i < 8 && choices.any_left(); ++i) {
      const size_t at = choices.below(frame.size());
      if (choices.below(4) == 0 && !frame.empty())
        frame.resize(at);
      else if (!frame.empty())
        frame[at] = static_cast<std::byte>(choices.below(256));
    }
  }
  wire::Limits limits;
  limits.frame_bytes = 1 << 16;
  limits.items = 1 << 10;
  const wire::Bytes bytes(frame);
  try_to([&] { wire::frame_length(bytes, limits, "frame 1"); });
  try_to([&] { wire::read_header(bytes, limits, "frame 1"); });
  try_to([&] { wire::read_request(bytes, limits, "frame 1"); });
  try_to([&] { wire::read_message(bytes, limits, "frame 1"); });
  try_to([&] { wire::read_grpc_tensor(bytes, limits); });
  return 0;
}

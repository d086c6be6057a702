// Frames of the hub's connections, and the proofs in them (protocol.h).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "mlx_kd/base/json.h"

namespace mlx_kd::discover {

// The bytes of a frame; strings in it may hold anything and are cut where it would be too long.
std::string frame_bytes(const base::Json& value);

// Frames out of a stream that comes in pieces.
class FrameReader {
 public:
  void take(std::string_view bytes) { pending_ += bytes; }
  // The next whole frame; nothing where there is none yet. Misuse (room discover) where the stream
  // is not one of frames: a length beyond kMaxFrame, no JSON object, no "kind".
  std::optional<base::Json> next();

 private:
  std::string pending_;
};

// RFC 2104 with SHA-256, as 64 hex digits.
std::string hmac_hex(std::string_view key, std::string_view text);

// Without a hint by its duration where they differ.
bool same_proof(std::string_view a, std::string_view b);

// From the system's source of random numbers.
std::string random_hex(size_t bytes);

}  // namespace mlx_kd::discover

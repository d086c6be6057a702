// Arrays that a person describes on the command line: "x=rand:f16:[128,4096]", "n=4096:u32".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mlx_kd::devices {

struct HostArray {
  std::string name;
  std::string type;             // "f32", "f16", "bf16", "i8" ... "u64", "bool"
  std::vector<int64_t> shape;   // empty: one value
  std::vector<uint64_t> words;  // the bytes, in whole words

  size_t elements() const;
  size_t bytes() const;
  void* data() { return words.data(); }
  const void* data() const { return words.data(); }
  double at(size_t i) const;
  void set(size_t i, double value);  // rounded as the type needs
};

// NAME=FILL:TYPE[:SHAPE], with FILL rand (normal), uniform (0 to 1), bits (any integer), zeros,
// ones, arange, a number, several with commas between, which repeat, or @FILE, whose bytes are the
// elements. Random values depend on the seed and the name alone. Misuse for anything else, for a
// shape whose bytes overflow 2^40, and for a type that is not listed.
HostArray parse_array(const std::string& text, uint64_t seed);

// NAME=TYPE:SHAPE, filled with 0; NAME=FILL:TYPE:SHAPE as parse_array, for a kernel that also reads
// it.
HostArray parse_output(const std::string& text, uint64_t seed = 0);

// "half4" -> "f16"; "" for a type that is none of the host's (a struct).
std::string host_type(const std::string& metal_type);
size_t type_bytes(const std::string& type);

}  // namespace mlx_kd::devices

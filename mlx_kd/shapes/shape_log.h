// The sizes that programs really called, as the runtime writes them: one JSON object a line,
//   {"ts": "2026-03-01T09:30:00+01:00", "op_name": "rmsnorm", "dtype": "bfloat16",
//    "shape_signature": {"rows": 1, "D": 2048}, "source": "mlx_kd", "count": 256}
// `count` says how many calls the line represents (1 where it is left out); ts and source are not
// needed. Lines of one op, type and size are added up.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::shapes {

struct LoggedSize {
  std::string op_name;
  spec::Dtype dtype;
  spec::Dims dims;  // complete
  uint64_t count;   // calls
};

struct DamagedLine {
  uint64_t number;  // from 1
  std::string why;
};

struct ShapeLog {
  std::vector<LoggedSize> sizes;     // most calls first, then in the order of the file
  std::vector<DamagedLine> damaged;  // left out
  std::vector<std::string> unknown;  // ops that this build does not have, each once
};

inline constexpr size_t kMaxLogLine = 1 << 16;  // bytes; longer lines are damaged
inline constexpr size_t kMostSizes = 1 << 16;   // different sizes; misuse beyond

// Reads a log of any length, a line at a time. Misuse if there is no such file.
ShapeLog read_shape_log(const std::filesystem::path& path, const std::vector<spec::Op>& ops);

// The sizes of one op, most calls first: those of `dtype`, or of all types added up (nullptr).
std::vector<LoggedSize> sizes_of(const ShapeLog& log, const std::string& op_name,
                                 const spec::Dtype* dtype);

// "lines 3, 17 and 5 more are damaged (line 3: it is not JSON)"; empty where none is.
std::string damage_text(const ShapeLog& log);

}  // namespace mlx_kd::shapes

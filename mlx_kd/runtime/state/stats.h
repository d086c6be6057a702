// What the runtime did and why: counts of a process, and one call explained.
//
// Threads: any number may call anything here while others run operators; counts of calls that are
// under way may be seen a little late.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "mlx/array.h"
#include "mlx/utils.h"
#include "mlx_kd/base/api.h"

namespace mlx_kd::runtime {

// One pin of the pack that this process could use.
struct PinStats {
  std::string op, dtype, shape;  // shape: "rows=1,D=2048"; "rows=1..512,D=2048" for a range
  std::string candidate_id;
  std::string state;      // "unused", "compiling", "ready", "dropped"
  std::string reason;     // why it was dropped
  uint64_t hits = 0;      // calls that ran it
  double compile_ms = 0;  // time the first call spent: compiler, or loading what the disk holds
  bool cached = false;    // nothing was compiled
};

// Calls of one op, type and size without a pin.
struct MissStats {
  std::string op, dtype, shape;
  uint64_t calls = 0;
  std::string nearest;  // the pin that differs least, "" if the pack has none of the op
  std::string differs;  // the fields that differ: "rows: 3 here, 4 in the pin"
};

// Calls of one op, type and size that ran the op's default kernel (Settings::default_kernels).
struct DefaultStats {
  std::string op, dtype, shape;
  uint64_t calls = 0;
};

// An entry of the pack that this process cannot use.
struct SkippedPin {
  std::string title;   // "rmsnorm float16 rows=1,D=2048 on Apple M4 (applegpu_g16s)"
  std::string reason;  // "for another device: ...": the first field that does not fit
};

struct Stats {
  bool enabled = false;
  std::vector<std::string> files;  // of the pins in use
  std::string error;               // why the pack that was asked for is not loaded, or ""
  uint64_t calls = 0;              // = hits + misses + fallbacks + defaults
  uint64_t hits = 0;               // ran a pinned kernel
  uint64_t misses = 0;             // no pin, or pins are off
  uint64_t fallbacks = 0;  // a pin is there and MLX ran: it was dropped, was being compiled by
                           // another thread, or the call was traced for an export or without shapes
  uint64_t defaults = 0;   // no pin, or it could not run; the op's default kernel ran, as asked
  double compile_ms = 0;   // in all
  uint64_t compiled = 0, loaded = 0, dropped = 0;  // kernels: built, found on disk, given up
  std::vector<PinStats> pins;                      // in the order of the pack
  std::vector<MissStats> missed;                   // most calls first; while pins are on
  std::vector<DefaultStats> by_default;            // most calls first
  std::vector<SkippedPin> skipped;                 // in the order of the pack
};

MLX_KD_API Stats stats();
MLX_KD_API void reset_stats();  // all counts to 0; pins and settings stay

// Why a call would run what it would run; runs and compiles nothing.
struct Explanation {
  std::string op, dtype, shape;  // of the call; dtype "mixed" where inputs differ
  bool pinned = false;           // the next such call runs the pin, compiled first if need be
  bool by_default = false;       // it runs the op's default kernel, which was asked for
  std::string candidate_id;      // of the pin
  std::string state;             // of the pin, as PinStats
  std::string reason;            // one sentence
  std::string nearest, differs;  // as MissStats, where no pin is there
};
// As call() of ops.h; throws what it throws.
MLX_KD_API Explanation explain(const std::string& op, const std::vector<mlx::core::array>& inputs,
                               const std::map<std::string, double>& params = {},
                               mlx::core::StreamOrDevice s = {});

// One object, the members' names as keys.
MLX_KD_API std::string to_json(const Stats& stats);
MLX_KD_API std::string to_json(const Explanation& explanation);

// Writes what the shape log (MLX_KD_SHAPE_LOG, docs/pins.md) still holds. Done at the end of a
// process and every MLX_KD_SHAPE_LOG_FLUSH_EVERY calls as well. Throws base::Error (exit code 1)
// where the file cannot be written.
MLX_KD_API void flush_shape_log();

}  // namespace mlx_kd::runtime

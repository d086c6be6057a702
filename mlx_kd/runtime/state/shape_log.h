// Which sizes a program calls, written down for `kd run --shape-log` and `kd suggest-shapes`.
//
// One JSON object a line, appended:
//
//   {"count": 256, "dtype": "float16", "op_name": "rmsnorm",
//    "shape_signature": {"D": 2048, "rows": 1}, "source": "mlx_kd", "ts":
//    "2026-03-01T09:30:00+01:00"}
//
// Mode `count` (the default) writes one line per size and flush, with the calls since the last one;
// so a size's calls are the sum over its lines. Mode `event` writes one line per call, count 1,
// with the time of the call. Any number of threads and processes may write one file: each flush is
// one write(2).
#pragma once

#include <atomic>
#include <mutex>
#include <string>

namespace mlx_kd::runtime {

class Ledger;
struct Line;

class ShapeLog {
 public:
  static ShapeLog& shared();  // never destroyed

  // Reads MLX_KD_SHAPE_LOG (a file), _MODE (count | event), _FLUSH_EVERY (calls of a thread, 256)
  // and _MAX (lines that a process writes at most, 1000000), each also under the older name
  // ZMLX_... Misuse where one has an invalid value.
  void configure();
  bool on() const { return on_.load(std::memory_order_acquire); }

  // A call, after it was counted; flushes when it is time. A file that cannot be written is
  // reported once and ends the log; the call continues.
  void note(Ledger& ledger, Line& line);
  void write_quietly(Ledger& ledger);
  // What all ledgers hold. Fails (exit 1) where it cannot be written.
  void write_all();
  void write_all_quietly();

 private:
  void write(Ledger& ledger);
  void append(const std::string& lines, uint64_t count);
  void stop(const std::string& why);

  std::atomic<bool> on_{false}, events_{false};
  std::atomic<uint64_t> flush_every_{256};
  std::mutex mutex_;  // of what follows
  std::string path_;
  uint64_t most_ = 0, written_ = 0;
  bool at_exit_ = false;
};

}  // namespace mlx_kd::runtime

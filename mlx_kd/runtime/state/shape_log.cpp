#include "mlx_kd/runtime/state/shape_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/log_once.h"
#include "mlx_kd/runtime/pins/describe.h"
#include "mlx_kd/runtime/pins/signature.h"
#include "mlx_kd/runtime/state/call_counts.h"
#include "mlx_kd/runtime/state/environment.h"

namespace mlx_kd::runtime {
namespace {

// A line with its count and time left out: what comes before, between and behind them.
std::string body_of(const Query& query) {
  const spec::Op& op = *all_operators()[query.op].op;
  return ", \"dtype\": \"" + dtype_of(query) + "\", \"op_name\": \"" + op.name +
         "\", \"shape_signature\": " + base::canonical_json(dims_of(op, query.dims).json()) +
         ", \"source\": \"mlx_kd\", \"ts\": \"";
}

bool event_mode() {
  const auto mode = env_value("MLX_KD_SHAPE_LOG_MODE", "ZMLX_KD_SHAPE_LOG_MODE");
  if (!mode || *mode == "count") return false;
  if (*mode == "event") return true;
  base::misuse("runtime", "MLX_KD_SHAPE_LOG_MODE is '" + *mode + "': set it to count or event");
}

void flush_at_exit() {
  ShapeLog::shared().write_all_quietly();
}

}  // namespace

ShapeLog& ShapeLog::shared() {
  static ShapeLog& log = *new ShapeLog;
  return log;
}

void ShapeLog::configure() {
  const auto path = env_value("MLX_KD_SHAPE_LOG", "ZMLX_KD_SHAPE_LOG");
  const bool events = event_mode();
  const auto every =
      env_count("MLX_KD_SHAPE_LOG_FLUSH_EVERY", "ZMLX_KD_SHAPE_LOG_FLUSH_EVERY", 256);
  const auto most = env_count("MLX_KD_SHAPE_LOG_MAX", "ZMLX_KD_SHAPE_LOG_MAX", 1000000);
  std::lock_guard lock(mutex_);
  events_.store(events, std::memory_order_relaxed);
  flush_every_.store(static_cast<uint64_t>(every), std::memory_order_relaxed);
  most_ = static_cast<uint64_t>(most);
  if (path.value_or("") != path_) {
    path_ = path.value_or("");
    written_ = 0;
  }
  on_.store(!path_.empty(), std::memory_order_release);
  if (!at_exit_ && !path_.empty()) at_exit_ = std::atexit(flush_at_exit) == 0;
}

void ShapeLog::note(Ledger& ledger, Line& line) {
  if (!on()) return;
  if (events_.load(std::memory_order_relaxed)) ledger.remember(line, base::iso_time_now());
  if (++ledger.unlogged < flush_every_.load(std::memory_order_relaxed)) return;
  ledger.unlogged = 0;
  write_quietly(ledger);
}

void ShapeLog::write_quietly(Ledger& ledger) {
  if (!on()) return;
  try {
    write(ledger);
  } catch (const base::Error& error) {
    stop(error.what());
  }
}

void ShapeLog::write_all() {
  if (!on()) return;
  visit_all_ledgers([this](Ledger& ledger) { write(ledger); });
}

void ShapeLog::write_all_quietly() {
  try {
    write_all();
  } catch (const base::Error& error) {
    stop(error.what());
  }
}

void ShapeLog::write(Ledger& ledger) {
  std::string text;
  uint64_t count = 0;
  const bool events = events_.load(std::memory_order_relaxed);
  const std::string now = base::iso_time_now();
  ledger.take_unlogged(events, [&](Line& line, uint64_t calls, const std::string& time) {
    if (line.log_body.empty()) line.log_body = body_of(line.query);
    text += "{\"count\": " + std::to_string(calls) + line.log_body + (time.empty() ? now : time) +
            "\"}\n";
    ++count;
  });
  if (count > 0) append(text, count);
}

void ShapeLog::append(const std::string& lines, uint64_t count) {
  std::lock_guard lock(mutex_);
  if (written_ + count > most_)
    base::fail("runtime", "the shape log " + path_ + " has its " + std::to_string(most_) +
                              " lines: it ends here, raise MLX_KD_SHAPE_LOG_MAX for more");
  const int fd = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  const ssize_t put = fd < 0 ? -1 : ::write(fd, lines.data(), lines.size());
  const int error = put < 0 ? errno : ENOSPC;
  if (fd >= 0) ::close(fd);
  if (put != static_cast<ssize_t>(lines.size()))
    base::fail("runtime", "the shape log " + path_ + " cannot be written: " + std::strerror(error));
  written_ += count;
}

void ShapeLog::stop(const std::string& why) {
  on_.store(false, std::memory_order_release);
  std::string text = why;
  if (const size_t end = text.find("] "); end != std::string::npos) text.erase(0, end + 2);
  base::log_once("runtime", text);
}

}  // namespace mlx_kd::runtime

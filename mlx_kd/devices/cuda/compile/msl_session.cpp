#include "mlx_kd/devices/cuda/compile/msl_session.h"

#include <chrono>
#include <sstream>
#include <thread>
#include <utility>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/devices/metal_text/binding.h"

namespace mlx_kd::devices::cuda {
namespace {

constexpr Result kNotReady = 600;  // CUDA_ERROR_NOT_READY
constexpr size_t kGroupAlign = 16;
constexpr size_t kMostGroupBytes = size_t{32} << 10;  // that Metal allows

struct GroupArguments {
  std::vector<int> offsets;  // into the dynamic memory of a block
  int bytes = 0;
};

GroupArguments place_groups(const msl::Kernel& kernel, const MslRequest& request) {
  GroupArguments result;
  size_t end = 0;
  for (size_t i = 0; i < kernel.groups.size(); ++i) {
    result.offsets.push_back(static_cast<int>(end));
    end += (request.group_bytes[i] + kGroupAlign - 1) / kGroupAlign * kGroupAlign;
    if (end > kMostGroupBytes)
      base::misuse("msl", "threadgroup arguments of " + std::to_string(end) +
                              " bytes: Metal allows 32 KiB (32768)");
  }
  result.bytes = static_cast<int>(end);
  return result;
}

std::array<int64_t, 3> wide(const Size3& size) {
  return {size[0], size[1], size[2]};
}

// Zeros for a buffer that a function constant switches off: a kernel's head may read a number of
// it.
constexpr size_t kAbsentBytes = 4096;

// The arrays of a request in the GPU's memory, by buffer of the kernel.
class Buffers {
 public:
  Buffers(const msl::Kernel& kernel, MslRequest& request, const TranslatedText& text) {
    for (const msl::Binding& one : kernel.buffers) {
      HostArray* const array = array_of(kernel, one, request, text);
      arrays_.push_back(array);
      const std::vector<std::byte> nothing(array ? 0 : kAbsentBytes);
      memory_.emplace_back(static_cast<int64_t>(array ? array->bytes() : nothing.size()));
      write_memory(memory_.back().at(), array ? array->data() : nothing.data(),
                   array ? array->bytes() : nothing.size());
    }
  }
  void read_back() const {
    for (size_t i = 0; i < arrays_.size(); ++i)
      if (HostArray* const to = arrays_[i])
        check(driver().read(to->data(), memory_[i].at(), to->bytes()), "reading its memory");
  }
  const std::vector<Memory>& memory() const { return memory_; }

 private:
  std::vector<HostArray*> arrays_;  // nullptr: not given
  std::vector<Memory> memory_;
};

// What a launch holds on to until it is done.
struct Work {
  Work(const msl::Kernel& kernel, MslRequest& request, const TranslatedText& text)
      : buffers(kernel, request, text) {}
  Buffers buffers;
  OwnStream stream;
  OwnEvent start, end;
};

// False if it takes longer; 0 seconds: no limit.
bool wait(Stream stream, double timeout_s, Result& result) {
  const int64_t start = base::steady_ns();
  while ((result = driver().stream_query(stream)) == kNotReady) {
    if (timeout_s > 0 && base::seconds_since(start) > timeout_s) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return true;
}

std::string seconds_text(double seconds) {
  std::ostringstream text;
  text << seconds;
  return text.str();
}

}  // namespace

MslSession::MslSession(const std::string& name, const std::string& text,
                       const msl::PreprocessOptions& options,
                       const msl::TranslateOptions& translate)
    : text_(translate_text({name, text, options}, msl::Target::cuda, translate)) {
  code_for(1);
}

MslSession::~MslSession() = default;

const MslSession::Compiled& MslSession::code_for(int64_t group_threads) {
  std::unique_ptr<Compiled>& known = codes_[register_limit(group_threads)];
  if (known) return *known;
  CudaText text = cuda_text(text_, gpu().sm, group_threads);
  const Artifact made =
      compile_text(text, cpu::ObjectCache::from_environment(), "kd msl run " + text.file);
  if (!made.ok) base::misuse("msl", made.error);
  use_gpu();
  known = std::make_unique<Compiled>(std::move(text), base::read_file(made.path, "devices"));
  return *known;
}

MslOutcome MslSession::run(MslRequest& request) {
  const msl::Kernel& kernel = find_kernel(text_.made, request.kernel);
  const msl::SourceSet& sources = *text_.unit.sources;
  at_kernel(kernel, sources, [&] { check_names(kernel, request); });
  check_constants(text_, kernel);
  check_group_bytes(kernel, request.group_bytes.size(), sources);
  const auto [groups, size] = at_kernel(kernel, sources, [&] {
    return std::pair(place_groups(kernel, request),
                     launch_size(wide(request.grid), wide(request.threadgroup)));
  });
  use_gpu();
  auto work = std::make_unique<Work>(kernel, request, text_);
  Parameters parameters;
  for (const Memory& one : work->buffers.memory()) parameters.add(one.at());
  for (const int offset : groups.offsets) parameters.add(offset);
  for (const uint32_t threads : request.grid) parameters.add(static_cast<int>(threads));
  const std::string place =
      text_.unit.sources->describe(kernel.at) + ": kernel '" + kernel.name + "' ";
  const Compiled& compiled = code_for(kernel.most_threads.empty() ? size.block_threads() : 1);
  const Function function = compiled.code.function(compiled.text.symbol(kernel), groups.bytes);
  check(driver().event_record(work->start, work->stream, 0), "recording a time");
  launch(function, size, groups.bytes, work->stream, parameters);
  check(driver().event_record(work->end, work->stream, 0), "recording a time");
  Result result = 0;
  if (!wait(work->stream, request.launch.timeout_s, result)) {
    // The driver would wait for the kernel before it frees anything.
    (void)work.release();
    new auto(std::move(codes_));
    base::fail("msl",
               place + "did not end within " + seconds_text(request.launch.timeout_s) + " s");
  }
  check(result, (place + "ended early: running it").c_str());
  work->buffers.read_back();
  float ms = 0;
  check(driver().event_ms(&ms, work->start, work->end), "reading its clock");
  MslOutcome outcome;
  outcome.report.seconds = 1e-3 * static_cast<double>(ms);
  return outcome;
}

}  // namespace mlx_kd::devices::cuda

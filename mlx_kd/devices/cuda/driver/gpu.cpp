#include "mlx_kd/devices/cuda/driver/gpu.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "mlx_kd/base/error.h"

namespace mlx_kd::devices::cuda {
namespace {

// Attributes of devices and functions, by their numbers in the driver's interface.
constexpr int kProcessors = 16, kL2Bytes = 38, kMajor = 75, kMinor = 76, kOptInGroupBytes = 97;
constexpr int kFunctionDynamicBytes = 8;
constexpr unsigned kNonBlocking = 1;
constexpr int64_t kMostThreads = 1024, kMostThreadsZ = 64;
constexpr int64_t kMostBlocksX = 2147483647, kMostBlocksYZ = 65535;

int attribute(int device, int which) {
  int value = 0;
  check(driver().device_attribute(&value, which, device), "asking what it is");
  return value;
}

GpuInfo read_info() {
  const Driver& cuda = driver();
  int device = 0;
  check(cuda.device_get(&device, 0), "opening it");
  char name[128] = {};
  check(cuda.device_name(name, sizeof name - 1, device), "asking for its name");
  GpuInfo info;
  info.name = name;
  info.sm = 10 * attribute(device, kMajor) + attribute(device, kMinor);
  info.l2_bytes = attribute(device, kL2Bytes);
  info.processors = attribute(device, kProcessors);
  info.group_bytes = attribute(device, kOptInGroupBytes);
  return info;
}

struct Found {
  GpuInfo info;
  std::string why;
};

Found look() {
  Found result;
  const Driver* cuda = find_driver(&result.why);
  int count = 0;
  if (cuda && cuda->device_count(&count) != 0) count = 0;
  if (cuda && count == 0) result.why = why_none_is_shown(std::getenv("CUDA_VISIBLE_DEVICES"));
  if (cuda && count > 0) result.info = read_info();
  return result;
}

const char* const kAxes[] = {"x", "y", "z"};

void check_axis(int64_t grid, int64_t group, size_t axis) {
  const std::string where = std::string(" in ") + kAxes[axis];
  if (grid < 1 || group < 1)
    base::misuse("devices", (grid < 1 ? "the grid has " + std::to_string(grid)
                                      : "a threadgroup has " + std::to_string(group)) +
                                " threads" + where + ": give at least 1");
  const int64_t blocks = (grid + group - 1) / group;
  const int64_t most = axis == 0 ? kMostBlocksX : kMostBlocksYZ;
  if (grid > 4294967295 || blocks > most)
    base::misuse("devices", std::to_string(blocks) + " threadgroups" + where + ": CUDA takes " +
                                std::to_string(most) + "; give larger ones");
}

}  // namespace

std::string why_none_is_shown(const char* visible) {
  const std::string shown = "the driver shows no GPU";
  if (!visible) return shown;
  return shown + ": CUDA_VISIBLE_DEVICES is '" + visible +
         "'; unset it, or give the number of a GPU that nvidia-smi lists";
}

const GpuInfo* find_gpu(std::string* why) {
  static const Found found = look();
  if (why) *why = found.why;
  return found.why.empty() ? &found.info : nullptr;
}

const GpuInfo& gpu() {
  std::string why;
  if (const GpuInfo* info = find_gpu(&why)) return *info;
  base::fail("devices", "there is no CUDA GPU to use: " + why);
}

void use_gpu() {
  static const Context context = [] {
    gpu();
    int device = 0;
    check(driver().device_get(&device, 0), "opening it");
    Context made = nullptr;
    check(driver().context_retain(&made, device), "making a context");
    return made;
  }();
  check(driver().context_set(context), "using its context");
}

void write_memory(Address to, const void* from, size_t bytes) {
  check(driver().write(to, from, bytes), "writing its memory");
  check(driver().stream_wait(nullptr), "writing its memory");
}

void fill_memory(Address to, unsigned char byte, size_t bytes) {
  check(driver().fill(to, byte, bytes), "filling its memory");
  check(driver().stream_wait(nullptr), "filling its memory");
}

Memory::Memory(int64_t bytes) {
  check(driver().allocate(&at_, static_cast<size_t>(std::max<int64_t>(bytes, 1))),
        "allocating memory");
}

Memory::~Memory() {
  if (at_) driver().release(at_);
}

OwnStream::OwnStream() {
  check(driver().stream_create(&stream_, kNonBlocking), "making a stream");
}

OwnStream::~OwnStream() {
  driver().stream_destroy(stream_);
}

OwnEvent::OwnEvent() {
  check(driver().event_create(&event_, 0), "making an event");
}

OwnEvent::~OwnEvent() {
  driver().event_destroy(event_);
}

LaunchSize launch_size(const std::array<int64_t, 3>& grid, const std::array<int64_t, 3>& group) {
  LaunchSize size;
  int64_t threads = 1;
  for (size_t d = 0; d < 3; ++d) {
    const int64_t most = std::min(grid[d], group[d]);
    check_axis(grid[d], group[d], d);
    size.threads[d] = static_cast<unsigned>(most);
    size.blocks[d] = static_cast<unsigned>((grid[d] + most - 1) / most);
    threads *= group[d];
  }
  if (threads > kMostThreads)
    base::misuse("devices",
                 "a threadgroup of " + std::to_string(threads) + " threads: give at most 1024");
  if (size.threads[2] > kMostThreadsZ)
    base::misuse("devices", "a threadgroup has " + std::to_string(size.threads[2]) +
                                " threads in z: CUDA takes " + std::to_string(kMostThreadsZ) +
                                "; give them in x or y");
  return size;
}

void Parameters::put(const void* value, size_t bytes) {
  std::memcpy(&slots_.emplace_back(0), value, bytes);
}

std::vector<void*> Parameters::pointers() {
  std::vector<void*> result;
  for (uint64_t& slot : slots_) result.push_back(&slot);
  return result;
}

Code::Code(const std::string& cubin) {
  check(driver().module_load(&module_, cubin.data()), "loading a kernel");
}

Code::~Code() {
  driver().module_unload(module_);
}

Function Code::function(const std::string& symbol, int dynamic_bytes) const {
  Function found = nullptr;
  check(driver().module_function(&found, module_, symbol.c_str()),
        ("finding the kernel '" + symbol + "'").c_str());
  if (dynamic_bytes > 0)
    check(driver().function_set(found, kFunctionDynamicBytes, dynamic_bytes),
          "asking for threadgroup memory");
  return found;
}

Function Code::find(const std::string& symbol) const {
  Function found = nullptr;
  return driver().module_function(&found, module_, symbol.c_str()) == 0 ? found : nullptr;
}

void keep_loaded(std::shared_ptr<const Code> code) {
  static std::mutex mutex;
  static auto* kept = new std::vector<std::shared_ptr<const Code>>;
  const std::lock_guard lock(mutex);
  kept->push_back(std::move(code));
}

void launch(Function function, const LaunchSize& size, int dynamic_bytes, Stream stream,
            Parameters& parameters) {
  std::vector<void*> values = parameters.pointers();
  const auto& [blocks, threads] = size;
  check(
      driver().launch(function, blocks[0], blocks[1], blocks[2], threads[0], threads[1], threads[2],
                      static_cast<unsigned>(dynamic_bytes), stream, values.data(), nullptr),
      "launching a kernel");
}

}  // namespace mlx_kd::devices::cuda

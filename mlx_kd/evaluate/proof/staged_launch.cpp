#include "mlx_kd/evaluate/proof/staged_launch.h"

#include <algorithm>

namespace mlx_kd::evaluate {
namespace {

constexpr int64_t kMargin = 64 << 10;
constexpr unsigned char kNan = 0xff, kUnwritten = 0xc5;

// An array of the device between two margins, which end where it begins and begin where it ends.
class Staged {
 public:
  Staged(const devices::Accelerator& accelerator, const void* data, int64_t bytes,
         unsigned char margin)
      : accelerator_(accelerator),
        bytes_(bytes),
        margin_(margin),
        memory_(static_cast<std::byte*>(accelerator.allocate(bytes + 2 * kMargin))) {
    accelerator_.fill(memory_, margin, bytes + 2 * kMargin);
    accelerator_.write(array(), data, bytes);
  }
  Staged(const Staged&) = delete;
  Staged& operator=(const Staged&) = delete;
  ~Staged() { accelerator_.release(memory_); }

  void* array() const { return memory_ + kMargin; }
  void read(void* to) const { accelerator_.read(to, array(), bytes_); }
  bool intact() const { return untouched(memory_) && untouched(memory_ + kMargin + bytes_); }

 private:
  bool untouched(const std::byte* margin) const {
    std::vector<std::byte> found(kMargin);
    accelerator_.read(found.data(), margin, kMargin);
    return std::all_of(found.begin(), found.end(),
                       [&](std::byte b) { return b == std::byte{margin_}; });
  }

  const devices::Accelerator& accelerator_;
  int64_t bytes_;
  unsigned char margin_;
  std::byte* memory_;
};

using StagedArrays = std::vector<std::unique_ptr<Staged>>;

}  // namespace

int launch_staged(const devices::Accelerator& accelerator, const devices::Program& program,
                  const devices::Call& call, const std::vector<HostBytes>& inputs,
                  const std::vector<HostSpace>& outputs) {
  StagedArrays in, out;
  devices::DeviceArrays arrays;
  for (const HostBytes& one : inputs) {
    in.push_back(std::make_unique<Staged>(accelerator, one.data, one.bytes, kNan));
    arrays.inputs.push_back(in.back()->array());
  }
  for (const HostSpace& one : outputs) {
    out.push_back(std::make_unique<Staged>(accelerator, one.data, one.bytes, kUnwritten));
    arrays.outputs.push_back(out.back()->array());
  }
  for (size_t i = 0; i < out.size(); ++i)
    if (const int updated = call.updated_input(i); updated >= 0)
      arrays.inputs[static_cast<size_t>(updated)] = arrays.outputs[i];
  program.launch(arrays.inputs, arrays.outputs, call);
  int beside = -1;
  for (size_t i = 0; i < out.size(); ++i) {
    out[i]->read(outputs[i].data);
    if (beside < 0 && !out[i]->intact()) beside = static_cast<int>(i);
  }
  return beside;
}

}  // namespace mlx_kd::evaluate

// The devices of this process that can run entries of a pack.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mlx/device.h"
#include "mlx_kd/devices/device.h"

namespace mlx_kd::runtime {

// A device, and the MLX device on whose streams its operations run. An entry goes to the engine
// that has the entry's language and, in its id, the entry's device: a device kind that takes Metal
// bodies is all that Metal entries need.
struct Engine {
  std::shared_ptr<const devices::Device> device;
  mlx::core::Device::DeviceType place;
};

// Every kind of this build that this machine has, but for `null` and `simt`, and what is added.
// Opened at the first call; a kind that cannot be opened is left out, with a message. Thread-safe.
std::vector<Engine> engines();

// Another device for packs that are loaded while this lives: tests bring theirs so. Pins of it that
// are loaded stay as they are.
class AddedEngine {
 public:
  explicit AddedEngine(const Engine& engine);
  ~AddedEngine();
  AddedEngine(const AddedEngine&) = delete;
  AddedEngine& operator=(const AddedEngine&) = delete;

 private:
  std::shared_ptr<const devices::Device> device_;
};

}  // namespace mlx_kd::runtime

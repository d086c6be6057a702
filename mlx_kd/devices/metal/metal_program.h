// A candidate in Metal that metal_kernel runs.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "mlx_kd/devices/metal/metal_device.h"
#include "mlx_kd/devices/metal/stage_chain.h"
#include "mlx_kd/devices/metal_text/metal_arguments.h"

namespace mlx_kd::devices::metal {

// What both kinds of candidate share. Shapes, types and strides are those of each call.
class HostedProgram : public Program {
 public:
  HostedProgram(std::shared_ptr<const MetalHost> host, const spec::Candidate& candidate)
      : host_(std::move(host)), candidate_(candidate) {}

  // Apple GPUs share the host's memory: inputs that start on a page are not copied.
  void launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
              const Call& call) const override;

 protected:
  const MetalHost& host() const { return *host_; }
  const spec::Candidate& candidate() const { return candidate_; }

 private:
  std::shared_ptr<const MetalHost> host_;
  spec::Candidate candidate_;
};

// A body as packs carry it, for one size.
class BodyProgram final : public HostedProgram {
 public:
  using HostedProgram::HostedProgram;

  std::vector<mlx::core::array> call(const std::vector<mlx::core::array>& inputs,
                                     const std::vector<spec::Shape>& output_shapes,
                                     const Call& call) const override;
};

// A whole file: each stage is a call of metal_kernel (stage_chain.h).
class MetalProgram final : public HostedProgram {
 public:
  // Misuse, with the place in the Metal text, if a kernel binds what the op lacks.
  MetalProgram(std::shared_ptr<const MetalHost> host, const spec::Candidate& candidate);

  // Misuse, with the place in the Metal text, for a kernel that has no body form.
  std::vector<mlx::core::array> call(const std::vector<mlx::core::array>& inputs,
                                     const std::vector<spec::Shape>& output_shapes,
                                     const Call& call) const override;

 private:
  TranslatedText text_;
  std::vector<StageKernel> kernels_;
  mutable MadeKernels made_;
};

}  // namespace mlx_kd::devices::metal

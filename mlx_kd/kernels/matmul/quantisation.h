// The quantisation that a model's config states, module by module.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "mlx_kd/kernels/matmul/weights64.h"
#include "mlx_kd/spec/op/model_config.h"

namespace mlx_kd::kernels::matmul {

// Of an object with bits, group_size and mode.
Format format_in(const spec::ModelConfig& part);

// What mx.quantize made of the modules: one format for all, and others for some by their paths,
// which may also be left as they were (false).
class Quantisation {
 public:
  explicit Quantisation(const spec::ModelConfig& config);

  // Of a module by the last part of its path; layer -1 is that of modules in no layer.
  Format of(int64_t layer, const std::string& module) const;

 private:
  Format all_;
  std::map<std::pair<int64_t, std::string>, Format> others_;
};

}  // namespace mlx_kd::kernels::matmul

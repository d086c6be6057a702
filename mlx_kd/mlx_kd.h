// mlx-kd for programs: `#include <mlx_kd/mlx_kd.h>`, then mlx_kd::rmsnorm(x, weight, eps).
//
// The headers below say everything: the operators, which pins the process uses, what was done, and
// kernels in Metal on every device.
#pragma once

#include "mlx_kd/base/error.h"
#include "mlx_kd/runtime/cache/cache.h"
#include "mlx_kd/runtime/call/linalg.h"
#include "mlx_kd/runtime/call/metal_kernel.h"
#include "mlx_kd/runtime/call/ops.h"
#include "mlx_kd/runtime/call/sample.h"
#include "mlx_kd/runtime/state/settings.h"
#include "mlx_kd/runtime/state/stats.h"
#include "mlx_kd/runtime/tuning/autotune.h"
#include "mlx_kd/runtime/tuning/tuned.h"
#include "mlx_kd/runtime/wire/grpc_tensor.h"
#include "mlx_kd/runtime/wire/message.h"

namespace mlx_kd {

using runtime::Autotune;
using runtime::autotune;
using runtime::Autotuned;
using runtime::AutotuneKernel;
using runtime::call;
using runtime::configure;
using runtime::disable;
using runtime::Effective;
using runtime::enable;
using runtime::explain;
using runtime::Explanation;
using runtime::flush_shape_log;
using runtime::metal_kernel;
using runtime::op_names;
using runtime::prepare;
using runtime::reload;
using runtime::reset_settings;
using runtime::reset_stats;
using runtime::sample;
using runtime::Sampled;
using runtime::SampleOptions;
using runtime::Sampling;
using runtime::Settings;
using runtime::settings;
using runtime::Stats;
using runtime::stats;
using runtime::to_json;
using runtime::Trust;
using runtime::Tuned;

namespace cache = runtime::cache;
namespace linalg = runtime::linalg;
namespace wire = runtime::wire;

}  // namespace mlx_kd

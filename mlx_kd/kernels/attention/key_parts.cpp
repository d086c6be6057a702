#include "mlx_kd/kernels/attention/key_parts.h"

#include <algorithm>
#include <utility>

#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/divide_up.h"

namespace mlx_kd::kernels::attention {

using spec::Dims;

int64_t blocks_of(const Dims& dims, int64_t rows) {
  const int64_t group = dims.at("Hq") / dims.at("Hk");
  return dims.at("B") * dims.at("Hk") * divide_up(group * dims.at("M"), rows);
}

int64_t parts_of(const Dims& dims, const spec::Setting& knobs) {
  const int64_t units = 4 * knobs.at("THREADS");
  return std::max<int64_t>(
      1, std::min(dims.at("S") / knobs.at("KEYS"), units / blocks_of(dims, knobs.at("ROWS"))));
}

spec::Knob keys_knob(std::vector<int64_t> values) {
  return {"KEYS", std::move(values), spec::KnobScale::log2, spec::KnobRole::launch,
          "keys of a part at least, where a block's keys are shared"};
}

std::vector<spec::Stage> stages_over_keys(const std::string& function, const Dims& dims,
                                          const spec::Setting& knobs) {
  const int64_t blocks = blocks_of(dims, knobs.at("ROWS")), parts = parts_of(dims, knobs);
  std::vector<spec::Stage> stages = {{function, share_units(blocks * parts, knobs), parts}};
  if (parts > 1) stages.push_back({function + "_merge", share_units(blocks, knobs), parts});
  return stages;
}

std::vector<int64_t> scratch_of_parts(const Dims& dims, const spec::Setting& knobs, int64_t width) {
  constexpr int64_t kFloatBytes = 4;
  const int64_t parts = parts_of(dims, knobs), rows = knobs.at("ROWS");
  if (parts == 1) return {};
  const int64_t all_rows = blocks_of(dims, rows) * parts * rows;
  return {all_rows * 2 * kFloatBytes, all_rows * width * kFloatBytes};
}

}  // namespace mlx_kd::kernels::attention

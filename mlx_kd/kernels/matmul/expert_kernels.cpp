#include "mlx_kd/kernels/matmul/expert_kernels.h"

#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/matmul/parts.h"

namespace mlx_kd::kernels::matmul {
namespace {

using spec::Dims;
using spec::Dtype;

std::vector<spec::Stage> stages_of_pairs(const Kind& kind, const Dims& dims,
                                         const spec::Setting& knobs) {
  const int64_t pairs = dims.at("M") * dims.at("A");
  return {{"mlx_kd_" + kind.name, prepare_rows(x_rows_of(dims), knobs)},
          {"mlx_kd_" + kind.name + "_rows", share_rows(pairs * dims.at("N"), knobs)}};
}

// x in the order of the codes and sums of its groups, each row by itself (experts.cpu.h).
std::vector<int64_t> scratch_of_pairs(const Dims& dims) {
  const int64_t rows = x_rows_of(dims), k = dims.at("K");
  return {rows * divide_up(k, 256) * 256 * 6 + 64,
          rows * divide_up(group_count(dims), 16) * 16 * 4 + 64};
}

// Each expert may leave a block of rows half empty (grouped.cpu.h).
int64_t block_count(const Dims& dims, const spec::Setting& knobs) {
  const int64_t pairs = dims.at("M") * dims.at("A");
  return divide_up(pairs, tile_rows(knobs)) + std::min(pairs, dims.at("E"));
}

std::vector<spec::Stage> stages_of_groups(const Kind& kind, const Dims& dims,
                                          const spec::Setting& knobs) {
  const int64_t threads = knobs.at("THREADS");
  const int64_t panels = divide_up(dims.at("N"), knobs.at("VEC") / 2);  // of an expert
  spec::Launch once, prepare, products;
  prepare.grid[0] = block_count(dims, knobs);
  prepare.group[0] = divide_up(prepare.grid[0], 8 * threads);
  products.grid[0] = (dims.at("E") + 1) * panels;
  products.group[0] = divide_up(panels, threads * knobs.at("TASKS"));
  prepare.threads = products.threads = static_cast<int>(threads);
  return {{"mlx_kd_" + kind.name, once},
          {"mlx_kd_" + kind.name + "_blocks", prepare},
          {"mlx_kd_" + kind.name + "_panels", products}};
}

std::vector<int64_t> scratch_of_groups(Dtype t, const Dims& dims, const spec::Setting& knobs) {
  const int64_t pairs = dims.at("M") * dims.at("A"), blocks = block_count(dims, knobs);
  const int64_t rows = blocks * tile_rows(knobs);
  const int64_t bytes = t == Dtype::float32 ? 6 : 4;  // of a column of x
  return {(2 * dims.at("E") + 4 + pairs + blocks) * 4,
          rows * divide_up(dims.at("K"), 256) * 256 * bytes + 64,
          rows * divide_up(group_count(dims), 16) * 16 * 4 + 64};
}

spec::Space space_of_groups(const Kind& kind, Dtype t, const spec::DeviceTraits& traits) {
  spec::Space space = cpu_space(kind, t, traits);
  const auto at = std::find_if(space.knobs.begin(), space.knobs.end(),
                               [](const spec::Knob& knob) { return knob.name == "PANEL"; });
  space.knobs.insert(at, {"FEW",
                          {16, 0, 8, 32},
                          spec::KnobScale::linear,
                          spec::KnobRole::source,
                          "rows of an expert at most that are multiplied as they come"});
  return space;
}

}  // namespace

size_t matrices_of(const Kind& kind) {
  return kind.form == Form::gated ? 2 : 1;
}

size_t arrays_each(const Kind& kind) {
  return kind.quantised ? 3 : 1;
}

int64_t x_rows_of(const Dims& dims) {
  return dims.at("M") * (dims.at("per_pair") ? dims.at("A") : 1);
}

int64_t group_count(const Dims& dims) {
  return dims.has("group") ? dims.at("K") / dims.at("group") : 0;
}

spec::Variant experts_on_cpu(const Kind& kind) {
  spec::Variant variant = cpu_variant(kind, kind.many_rows ? "groups" : "streams");
  if (kind.many_rows)
    variant.space = [kind](Dtype t, const spec::DeviceTraits& traits) {
      return space_of_groups(kind, t, traits);
    };
  variant.stages = [kind](const Dims& dims, const spec::Setting& knobs) {
    return kind.many_rows ? stages_of_groups(kind, dims, knobs)
                          : stages_of_pairs(kind, dims, knobs);
  };
  variant.scratch = [kind](Dtype t, const Dims& dims, const spec::Setting& knobs) {
    return kind.many_rows ? scratch_of_groups(t, dims, knobs) : scratch_of_pairs(dims);
  };
  return variant;
}

}  // namespace mlx_kd::kernels::matmul

#include "mlx_kd/kernels/mlstm/cpu_variant.h"

#include <algorithm>

#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/mlstm/cells.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::mlstm {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Setting;
using enum spec::KnobScale;
using enum spec::KnobRole;

constexpr int64_t kLine = 16;  // floats, as in the sources
constexpr int64_t kGateArrays = 8;
constexpr int64_t kLeastPart = 256;  // columns

spec::Space space_of(const spec::DeviceTraits& traits, bool is_gradient) {
  const bool wide = traits.vector_bytes >= 64;
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"ROWS", wide ? std::vector<int64_t>{8, 4, 16} : std::vector<int64_t>{4, 8}, log2,
                  source, "rows that a product works on together"},
                 {"TILE", wide ? std::vector<int64_t>{2, 1, 4} : std::vector<int64_t>{2, 1}, log2,
                  source, "vectors of columns that it works on together"},
                 {"CHUNK", {64, 16, 32, 128, 256}, log2, launch, "tokens of a chunk"}};
  if (is_gradient)
    space.knobs.push_back(
        {"EVERY", {1, 2, 4, 8}, log2, launch, "chunks of which one state is kept"});
  add_thread_knobs(space, traits, {1, 2, 4}, "heads at least");
  space.constraints.push_back({"at most 32 registers hold what is worked on together",
                               {"ROWS", "TILE", "VEC"},
                               [](const int64_t* v) { return v[0] * v[1] * (64 / v[2]) <= 32; }});
  return space;
}

// Parts of the columns of a head, forward: more than one where threads would have none, and each so
// wide that its own columns cost more than the scores, which it finds for itself.
int64_t parts_of(const Dims& dims, const Setting& knobs, bool is_gradient) {
  const int64_t heads = dims.at("heads"), threads = knobs.at("THREADS");
  if (is_gradient || heads == 0 || heads >= threads) return 1;
  return std::clamp<int64_t>(dims.at("DHHV") / kLeastPart, 1, divide_up(threads, heads));
}

// Units of a task, each a head or a part of it: so many that each thread has at most four tasks,
// each with its scratch.
int64_t grain_of(int64_t units, int64_t parts, const Setting& knobs) {
  const int64_t least = parts > 1 ? 1 : knobs.at("GRAIN");
  return std::max(least, divide_up(units, 4 * knobs.at("THREADS")));
}

spec::Stage stage_of(const std::string& function, const Dims& dims, const Setting& knobs,
                     bool is_gradient) {
  const int64_t parts = parts_of(dims, knobs, is_gradient), units = parts * dims.at("heads");
  const int64_t grain = grain_of(units, parts, knobs);
  const int64_t high = is_gradient ? knobs.at("EVERY") : parts;
  spec::Stage stage{function, {}, chunk_of(dims, knobs.at("CHUNK")) | grain << 20 | high << 40};
  stage.launch.grid[0] = units;
  stage.launch.group[0] = grain;
  stage.launch.threads =
      static_cast<int>(std::clamp<int64_t>(divide_up(units, grain), 1, knobs.at("THREADS")));
  return stage;
}

// ---- scratch, as open_forward and open_backward of the sources take it

int64_t lines(int64_t count) {
  return divide_up(count, kLine) * kLine;
}
int64_t stride_of(int64_t columns) {
  return lines(columns) / kLine % 2 ? lines(columns) : lines(columns) + kLine;
}

struct Floats {
  int64_t room, qk, hv, by_token, by_qk, by_hv, chunks;
  Floats(const Dims& dims, int64_t chunk, int64_t parts)
      : room(lines(chunk)),
        qk(lines(dims.at("DHQK"))),
        hv(divide_up(divide_up(dims.at("DHHV"), kLine), parts) * kLine),
        by_token(stride_of(chunk)),
        by_qk(stride_of(dims.at("DHQK"))),
        by_hv(stride_of(hv)),
        chunks(divide_up(dims.at("S"), chunk)) {}

  int64_t forward() const {
    return room * (2 * by_qk + 2 * by_hv + by_token) + qk * by_token + qk * by_hv + qk +
           (kGateArrays + 2) * room;
  }
  int64_t backward(int64_t every) const {
    const int64_t state = qk * by_hv + qk;
    return room * (4 * by_qk + 3 * by_hv + 3 * by_token) + (qk + hv) * by_token + 2 * hv * by_qk +
           state + 8 * room + chunks * kGateArrays * room +
           (every + divide_up(chunks, every)) * state;
  }
};

std::vector<int64_t> scratch_of(const Dims& dims, const Setting& knobs, bool is_gradient) {
  const int64_t parts = parts_of(dims, knobs, is_gradient), units = parts * dims.at("heads");
  const Floats floats(dims, chunk_of(dims, knobs.at("CHUNK")), parts);
  const int64_t tasks = divide_up(units, grain_of(units, parts, knobs));
  return {tasks * 4 * (is_gradient ? floats.backward(knobs.at("EVERY")) : floats.forward())};
}

}  // namespace

spec::Variant chunks_on_cpu(const std::string& name, const std::string& source, bool is_gradient) {
  spec::Variant variant;
  variant.name = "chunks";
  variant.language = "cpp";
  variant.source = kernel_source(source);
  variant.func_name = "mlx_kd_" + name;
  variant.launch_kind = "cpp_arguments";
  variant.space = [is_gradient](Dtype, const spec::DeviceTraits& traits) {
    return space_of(traits, is_gradient);
  };
  variant.stages = [function = variant.func_name, is_gradient](const Dims& dims,
                                                               const Setting& knobs) {
    return std::vector<spec::Stage>{stage_of(function, dims, knobs, is_gradient)};
  };
  variant.scratch = [is_gradient](Dtype, const Dims& dims, const Setting& knobs) {
    return scratch_of(dims, knobs, is_gradient);
  };
  return variant;
}

}  // namespace mlx_kd::kernels::mlstm

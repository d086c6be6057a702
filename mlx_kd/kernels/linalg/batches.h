// What the operators on batches of matrices share: sizes, knobs, and how matrices go to threads.
#pragma once

#include <mlx/array.h>
#include <mlx/stream.h>

#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::linalg {

// The dim of all leading axes.
spec::Dim batch_dim();
spec::Dim attribute(const std::string& name, int64_t default_value = 0);

// A port of T or of int32 that begins with the batch; `axes` names dims.
spec::Port floats(const std::string& name, std::vector<std::string> axes);
spec::Port integers(const std::string& name, std::vector<std::string> axes,
                    spec::Dtype type = spec::Dtype::int32);

// The sizes of the suites: "batches" of 64 to 4096, "small", "single". `extra` dims are added.
std::vector<spec::Suite> square_suites(const std::vector<std::string>& sides,
                                       const spec::Dims& extra);

// Misuse unless the attribute is 0 to `most`; `choices` says what there is.
void check_choice(const std::string& op, const spec::Dims& dims, const std::string& name,
                  int64_t most, const std::string& choices);

// VEC, PANEL, ROWS, TILE and BLOCK as blocks.cpu.h has them, with their constraints; then THREADS,
// GRAIN and SPLIT.
// A vector of VEC bytes has VEC / 4 elements; of float64 it is twice as long, and VEC at most half.
spec::Space block_space(spec::Dtype t, const spec::DeviceTraits& traits,
                        std::vector<int64_t> panels);
spec::DeviceTraits traits_for(spec::Dtype t, spec::DeviceTraits traits);

int64_t word_of(spec::Dtype t);  // bytes of an element of scratch: 8 for float64, 4 for others

int64_t padded(int64_t n, const spec::Setting& knobs);  // to a multiple of PANEL
int64_t stride_of(int64_t columns);                     // as in blocks.cpu.h
int64_t tile_columns(const spec::Setting& knobs);

// Whether threads share each matrix: there are fewer of them than threads, and they are large.
bool is_shared(int64_t batch, int64_t n, const spec::Setting& knobs);

// Matrices of a task: so many that there are at most four tasks a thread, each with its scratch.
int64_t grain_of(int64_t units, const spec::Setting& knobs);
int64_t tasks_of(int64_t units, const spec::Setting& knobs);

// Units one by one; and in tasks of grain_of(), which is the stage's index.
spec::Stage stage_of(const std::string& function, int64_t units, const spec::Setting& knobs,
                     int64_t index = 0);
spec::Stage whole_stage(const std::string& function, int64_t units, const spec::Setting& knobs);

// The knob THREADS of a Metal kernel, and its launch: a threadgroup for each matrix.
spec::Knob metal_threads();
spec::Launch launch_groups(int64_t groups, const spec::Setting& knobs);

// The knob SHARED of a kernel in CUDA C++: KiB of a matrix in shared memory at most. The bytes that
// a launch asks for, and the scratch memory of matrices that take more.
spec::Knob shared_memory();
int64_t shared_bytes(int64_t floats, const spec::Setting& knobs);
std::vector<int64_t> scratch_unless_shared(const spec::Dims& dims, const spec::Setting& knobs,
                                           int64_t floats);

// What every operator on a batch states alike: its dims begin with the batch, it costs the bytes of
// its ports and `flops` a matrix, and has no gradient of its own.
struct OnBatch {
  std::string name, summary;
  std::vector<spec::Port> inputs, outputs;
  std::vector<spec::Dim> dims;  // without the batch
  double (*flops)(const spec::Dims& dims);
};
spec::Op op_on(const OnBatch& batch);

// 0 for each matrix of (..., m, n): MLX's forms report no failure.
mlx::core::array no_info(const mlx::core::array& a, const mlx::core::Stream& s);

// How a page says which triangle is read.
spec::DocLine upper_parameter();

}  // namespace mlx_kd::kernels::linalg

// Heads of queries and keys that are normed, where there is a weight, and rotated.
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "mlx_kd/kernels/positions/rotary.h"

namespace mlx_kd::kernels {

// The inputs of such an op end with an offset and these: wq, wk and freqs, all optional. `offset`
// is the index of the offset below.
std::vector<spec::Port> head_ports();
// Its attributes end with these: rotary_attributes(), has_wq and has_wk.
std::vector<spec::Dim> head_attributes();
// What they mean, and the numbers eps, base, scale, dims and traditional.
std::vector<spec::DocLine> head_parameters();

// Reads the attributes off a call's arrays. Throws std::invalid_argument, "[op] ..", where one does
// not fit rows of `width` elements in `batch` batch rows. Allocates only then.
struct HeadDims {
  RotaryDims rotary;
  int64_t &has_wq, &has_wk;
};
void read_heads(const char* op, std::span<const spec::ArrayView> in, size_t offset, int64_t batch,
                int64_t width, const HeadDims& dims);
// complete_rotary, and the attributes has_wq and has_wk.
spec::Dims complete_heads(const spec::Dims& dims);

// x (B, H, M, D), normed unless the weight is left out, then rotated.
mlx::core::array heads_in_mlx(const mlx::core::array& x, const mlx::core::array& weight, double eps,
                              const MlxRotation& by, const mlx::core::Stream& s);
// `numbers`: eps, base, scale, dims, traditional.
MlxRotation head_rotation(const spec::Op::Arrays& in, size_t offset,
                          std::span<const double> numbers);

// Writes the weights that are there, and the frequencies.
void fill_head_weights(const spec::FillRequest& request, size_t offset);

// Heads in float64: normed where there is a weight, rotated.
class HeadReference {
 public:
  // `scalars`: eps, base, scale. The arrays must outlive the object.
  HeadReference(const std::vector<const void*>& in, size_t offset, spec::Dtype dtype,
                const spec::Dims& dims, const std::vector<double>& scalars);
  spec::Reference64 queries(size_t port) const { return heads(port, "Hq", offset_ + 1, "has_wq"); }
  spec::Reference64 keys(size_t port) const { return heads(port, "Hk", offset_ + 2, "has_wk"); }

 private:
  spec::Reference64 heads(size_t port, const char* count, size_t weight,
                          const char* attribute) const;

  const std::vector<const void*>& in_;
  size_t offset_;
  spec::Dtype dtype_;
  const spec::Dims& dims_;
  RotaryNumbers numbers_;
};

// Attributes of sizes whose heads are normed.
inline const std::initializer_list<spec::Dims::Item> kNormed = {{"has_wq", 1}, {"has_wk", 1}};

spec::ErrorBound bound_of_heads(const spec::Dims& dims);

// Whether a model norms queries and keys by head.
bool norms_heads(const spec::ModelConfig& config);

}  // namespace mlx_kd::kernels

// What caches hold: keys or values as one array [B, H, rows, D], or as codes, scales and biases of
// the same rows.
#pragma once

#include <string>
#include <vector>

#include "mlx/ops.h"
#include "mlx_kd/runtime/cache/cache.h"
#include "mlx_kd/runtime/pins/signature.h"

namespace mlx_kd::runtime::cache {

using Planes = std::vector<mlx::core::array>;  // empty; one array; or three

inline int rows_of(const Planes& planes) {
  return planes.empty() ? 0 : planes.front().shape(2);
}

Planes cut(const Planes& planes, int begin, int end, const mlx::core::Stream& s);
Planes join(const std::vector<Planes>& parts, const mlx::core::Stream& s);
// Rows of zeros, otherwise as `planes`.
Planes spare(const Planes& planes, int count, const mlx::core::Stream& s);

// How rows become planes: as they are, or as codes of so many bits, by the affine rule.
struct Coding {
  bool is_coded;
  int bits, group_size;

  Planes encode(const mlx::core::array& rows, const mlx::core::Stream& s) const;
  // Of a row of planes, in elements; the type that rows have before they are encoded.
  int width_of(const Planes& planes) const;
  mlx::core::Dtype type_of(const Planes& planes) const { return planes[is_coded ? 1 : 0].dtype(); }
  // std::invalid_argument for widths that are not multiples of the group.
  void check_widths(const mlx::core::array& keys, const mlx::core::array& values) const;
};
Coding coding_of(const Options& options);

// std::invalid_argument unless they are keys and values of one layer.
void check_new_rows(const mlx::core::array& keys, const mlx::core::array& values);
void check_trim(int n);

// Made by make(), which has checked the options.
std::unique_ptr<Cache> make_paged(const Options& options);
std::unique_ptr<Cache> make_unpaged(const Options& options);

}  // namespace mlx_kd::runtime::cache

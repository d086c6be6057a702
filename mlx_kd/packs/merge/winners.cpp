#include "mlx_kd/packs/merge/winners.h"

#include "mlx_kd/base/error.h"

namespace mlx_kd::packs {

Pack read_some_winners(const fs::path& path) {
  Pack result = read_winners(path);
  if (result.entries.empty())
    base::misuse("packs", path.string() +
                              " holds no winners: no kernel was surely faster than "
                              "MLX; give the run a larger budget");
  return result;
}

std::optional<Pack> read_if_there(const fs::path& path) {
  std::error_code unreadable;  // then opening the file says why
  if (!fs::exists(path, unreadable) && !unreadable) return std::nullopt;
  return read_pack(path);
}

fs::path behind_links(const fs::path& path) {
  std::error_code broken;
  const fs::path result = fs::weakly_canonical(path, broken);
  return broken ? path : result;
}

}  // namespace mlx_kd::packs

#include "mlx_kd/msl/prelude.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/sha256.h"

namespace mlx_kd::msl {

void write_prelude(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) base::fail("msl", "cannot create '" + folder.string() + "': " + error.message());
  for (const auto& [name, text] : prelude())
    base::write_file_atomically(folder / name, text, "msl");
}

const std::string& prelude_hash() {
  static const std::string hash = [] {
    std::string all;
    for (const auto& [name, text] : prelude()) all += name + "\n" + text;
    return base::sha256_hex(all);
  }();
  return hash;
}

}  // namespace mlx_kd::msl

#include "mlx_kd/discover/ranks/exchange.h"

#include <mlx/mlx.h>

#include <algorithm>

#include "mlx_kd/base/error.h"

namespace mlx_kd::discover {
namespace {

namespace mx = mlx::core;

class MlxExchange final : public Exchange {
 public:
  explicit MlxExchange(mx::distributed::Group group) : group_(std::move(group)) {}
  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }

  std::vector<std::string> all_gather(std::string_view bytes) override {
    const auto count = static_cast<size_t>(size());
    const mx::array mine(static_cast<int64_t>(bytes.size()), mx::int64);
    mx::array lengths = gathered(mx::reshape(mine, {1}));
    const int64_t* const length = lengths.data<int64_t>();
    const int64_t longest = std::max<int64_t>(1, *std::max_element(length, length + count));
    if (longest > static_cast<int64_t>(kMaxMeetingBytes / count))
      base::fail("discover", "a rank has " + std::to_string(longest) +
                                 " bytes of results for one meeting: give a smaller --batch");
    std::string padded(bytes);
    padded.resize(static_cast<size_t>(longest), '\0');
    mx::array all = gathered(mx::array(reinterpret_cast<const uint8_t*>(padded.data()),
                                       {static_cast<int>(longest)}, mx::uint8));
    const char* const data = reinterpret_cast<const char*>(all.data<uint8_t>());
    std::vector<std::string> parts;
    for (size_t i = 0; i < count; ++i)
      parts.emplace_back(data + i * static_cast<size_t>(longest), static_cast<size_t>(length[i]));
    return parts;
  }

 private:
  // Its own rows, of all ranks one after the other.
  mx::array gathered(const mx::array& mine) const {
    mx::array all = mx::distributed::all_gather(mine, group_, mx::Device(mx::Device::cpu));
    all.eval();
    return all;
  }

  mx::distributed::Group group_;
};

[[noreturn]] void refuse_group(const Launch& launch, const std::string& why) {
  base::misuse("discover", "the " + std::to_string(launch.size) + " ranks of the launcher do not " +
                               "form a group (" + why +
                               "): check the hosts and ports that it was " +
                               "given, and that no other run uses them");
}

}  // namespace

std::unique_ptr<Exchange> open_group(const Launch& launch) {
  try {
    auto made = std::make_unique<MlxExchange>(mx::distributed::init(true, launch.backend));
    if (made->size() != launch.size)
      refuse_group(launch, "MLX made one of " + std::to_string(made->size()));
    made->all_gather("here");
    return made;
  } catch (const base::Error&) {
    throw;
  } catch (const std::exception& error) {
    refuse_group(launch, error.what());
  }
}

}  // namespace mlx_kd::discover

#include "mlx_kd/runtime/tuning/autotune_digest.h"

#include <mlx/device.h>
#include <mlx/export.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <map>
#include <type_traits>
#include <variant>

#include "mlx_kd/base/sha256.h"

namespace mlx_kd::runtime {
namespace autotuning {

namespace mx = mlx::core;

// What a graph consists of, as text; arrays by their bytes.
class GraphText {
 public:
  // One record of an export. Names of arrays are those of the export, in its order.
  void add(const mx::ExportCallbackInput& record) {
    const std::map<std::string, mx::ExportCallbackInput::mapped_type> ordered(record.begin(),
                                                                              record.end());
    for (const auto& [key, value] : ordered) {
      put(key);
      std::visit([&](const auto& one) { put(one); }, value);
    }
  }

  const std::string& text() const { return text_; }

 private:
  void put(const std::string& word) { text_ += std::to_string(word.size()) + ':' + word + ' '; }
  void put(mx::Dtype dtype) { put(static_cast<int>(dtype.val())); }

  template <class Number>
  requires std::is_arithmetic_v<Number>
  void put(Number number) {
    put(std::string(reinterpret_cast<const char*>(&number), sizeof number));
  }

  void put(const mx::array& constant) {
    mx::array whole = mx::contiguous(constant, false, mx::Device::cpu);
    whole.eval();
    put(whole.dtype());
    put(std::vector<mx::ShapeElem>(whole.shape().begin(), whole.shape().end()));
    put(std::string(whole.data<char>(), whole.nbytes()));
  }

  template <class T>
  void put(const std::optional<T>& value) {
    put(value.has_value());
    if (value) put(*value);
  }

  template <class... Parts>
  void put(const std::tuple<Parts...>& parts) {
    std::apply([&](const auto&... part) { (put(part), ...); }, parts);
  }

  template <class First, class Second>
  void put(const std::pair<First, Second>& parts) {
    put(parts.first);
    put(parts.second);
  }

  template <class... Kinds>
  void put(const std::variant<Kinds...>& value) {
    put(value.index());
    std::visit([&](const auto& one) { put(one); }, value);
  }

  template <class List>
  requires requires(const List& list) { list.begin() != list.end(); }
  void put(const List& list) {
    put(static_cast<size_t>(list.end() - list.begin()));
    for (const auto& one : list) put(one);
  }

  std::string text_;
};

}  // namespace autotuning

using namespace autotuning;

std::string autotune_digest(const std::string& text, const Autotune& options,
                            const std::vector<mx::array>& inputs) {
  std::vector<mx::array> zeros;
  for (const mx::array& input : inputs)
    zeros.push_back(mx::zeros(input.shape(), input.dtype(), mx::Device(mx::Device::cpu)));
  GraphText graph;
  const std::function<void(const mx::ExportCallbackInput&)> add =
      [&](const mx::ExportCallbackInput& record) { graph.add(record); };
  const std::function<std::vector<mx::array>(const mx::Args&)> reference = options.reference;
  mx::export_function(add, reference, zeros);
  return base::sha256_hex(text + '\0' + graph.text());
}

}  // namespace mlx_kd::runtime

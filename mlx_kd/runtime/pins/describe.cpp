#include "mlx_kd/runtime/pins/describe.h"

#include "mlx_kd/runtime/pins/operators.h"

namespace mlx_kd::runtime {

std::string dtype_of(const Query& query) {
  return spec::name_of(static_cast<spec::Dtype>(query.dtype));
}

std::string shape_of(const Query& query) {
  const std::vector<std::string> names = all_operators()[query.op].op->dim_names();
  std::string text;
  for (size_t i = 0; i < names.size(); ++i)
    text += (i ? "," : "") + names[i] + "=" + std::to_string(query.dims[i]);
  return text;
}

std::string title_of(const Query& query) {
  return all_operators()[query.op].op->name + " " + dtype_of(query) + " " + shape_of(query) +
         " on the " + (query.place ? "gpu" : "cpu");
}

std::string title_of(const Pin& pin) {
  return pin.op->op->name + " " + dtype_of(pin.key) + " " + shape_of(pin);
}

std::string differences_text(const Pin& pin, const Query& query) {
  std::string text;
  for (const std::string& difference : differences(pin, query))
    text += (text.empty() ? "" : "; ") + difference;
  return text;
}

}  // namespace mlx_kd::runtime

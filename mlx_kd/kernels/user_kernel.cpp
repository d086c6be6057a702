// The description as JSON, and the operators that were made from descriptions.
#include "mlx_kd/kernels/user_kernel.h"

#include <list>
#include <mutex>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/user_table.h"

namespace mlx_kd::kernels {
namespace {

constexpr int kVersion = 1;  // of the description

struct UserTable {
  std::mutex mutex;
  std::list<spec::Op> ops;  // never taken out: references are handed out
};

UserTable& table() {
  static UserTable& all = *new UserTable;
  return all;
}

const spec::Op* find_in(const UserTable& all, const std::string& name) {
  for (auto op = all.ops.rbegin(); op != all.ops.rend(); ++op)
    if (op->name == name) return &*op;
  return nullptr;
}

base::Json json_of(const UserPort& port) {
  base::Json result = {{"name", port.name}, {"type", port.type}, {"shape", port.shape}};
  if (!port.least.empty()) result["range"] = {port.least, port.most};
  return result;
}

UserPort port_from(const base::Json& value) {
  UserPort port{value.at("name"), value.at("type"), value.at("shape")};
  if (const auto range = value.find("range"); range != value.end()) {
    port.least = range->at(0).get<std::string>();
    port.most = range->at(1).get<std::string>();
  }
  return port;
}

base::Json json_of(const UserReference& reference) {
  const char* const kinds[] = {"operator", "python", "recorded"};
  return {{"kind", kinds[static_cast<size_t>(reference.kind)]},
          {"name", reference.name},
          {"text", reference.text},
          {"path", reference.path},
          {"sha256", reference.sha256},
          {"has_graph", reference.has_graph}};
}

UserReference reference_from(const base::Json& value) {
  const std::string kind = value.at("kind");
  return {kind == "operator" ? UserReference::Kind::op
          : kind == "python" ? UserReference::Kind::python
                             : UserReference::Kind::recorded,
          value.at("name"),
          value.at("text"),
          value.at("path"),
          value.at("sha256"),
          value.at("has_graph")};
}

base::Json json_of(const spec::Scalar& scalar) {
  return {{"name", scalar.name}, {"value", scalar.default_value}};
}

spec::Scalar scalar_from(const base::Json& value) {
  const double number = value.at("value");
  return {value.at("name"), number, {number}};
}

template <class Item, class Make>
std::vector<Item> list_from(const base::Json& values, const Make& make) {
  std::vector<Item> result;
  for (const base::Json& value : values) result.push_back(make(value));
  return result;
}

template <class Items, class Make>
base::Json list_json(const Items& items, const Make& make) {
  base::Json result = base::Json::array();
  for (const auto& item : items) result.push_back(make(item));
  return result;
}

UserKernel parsed(const base::Json& v) {
  UserKernel k;
  k.name = v.at("name");
  k.function = v.at("function");
  k.language = v.at("language");
  k.file = v.at("file");
  k.source = v.at("source");
  k.type = v.at("type");
  k.inputs = list_from<UserPort>(v.at("inputs"), port_from);
  k.outputs = list_from<UserPort>(v.at("outputs"), port_from);
  k.dims = v.at("dims").get<std::vector<std::string>>();
  k.scalars = list_from<spec::Scalar>(v.at("scalars"), scalar_from);
  k.batch_dim = v.at("batch_dim");
  k.knobs = list_from<UserKnob>(v.at("knobs"), [](const base::Json& one) {
    return UserKnob{one.at("name"), one.at("values"), one.at("launch")};
  });
  k.constraints = v.at("constraints").get<std::vector<std::string>>();
  k.grid = v.at("grid").get<std::vector<std::string>>();
  k.group = v.at("group").get<std::vector<std::string>>();
  k.threads = v.at("threads");
  k.launches = v.at("launches").get<std::map<std::string, std::vector<int64_t>>>();
  k.reference = reference_from(v.at("reference"));
  const base::Json& judge = v.at("judge");
  k.judge = {judge.at("name"), judge.at("relative"), judge.at("absolute")};
  k.sizes = list_from<spec::Dims>(v.at("sizes"), [](const base::Json& text) {
    return spec::Dims::parse(text.get<std::string>());
  });
  return k;
}

}  // namespace

base::Json to_json(const UserKernel& k) {
  return {
      {"version", kVersion},
      {"name", k.name},
      {"function", k.function},
      {"language", k.language},
      {"file", k.file},
      {"source", k.source},
      {"type", k.type},
      {"inputs", list_json(k.inputs, [](const UserPort& one) { return json_of(one); })},
      {"outputs", list_json(k.outputs, [](const UserPort& one) { return json_of(one); })},
      {"dims", k.dims},
      {"scalars", list_json(k.scalars, [](const spec::Scalar& one) { return json_of(one); })},
      {"batch_dim", k.batch_dim},
      {"knobs",
       list_json(
           k.knobs,
           [](const UserKnob& one) {
             return base::Json{{"name", one.name}, {"values", one.values}, {"launch", one.launch}};
           })},
      {"constraints", k.constraints},
      {"grid", k.grid},
      {"group", k.group},
      {"threads", k.threads},
      {"launches", k.launches},
      {"reference", json_of(k.reference)},
      {"judge",
       {{"name", k.judge.name}, {"relative", k.judge.relative}, {"absolute", k.judge.absolute}}},
      {"sizes", list_json(k.sizes, [](const spec::Dims& one) { return one.text(); })}};
}

UserKernel user_kernel_from_json(const base::Json& value) {
  try {
    if (value.at("version") != kVersion)
      base::misuse("tune", "the description of a kernel has version " + value["version"].dump() +
                               ", and this program reads version " + std::to_string(kVersion));
    return parsed(value);
  } catch (const base::Json::exception& error) {
    base::misuse("tune", std::string("the description of a kernel is damaged (") + error.what() +
                             "): tune the kernel again");
  }
}

const spec::Op* find_user_op(const std::string& name) {
  std::lock_guard lock(table().mutex);
  return find_in(table(), name);
}

const spec::Op& add_user_op(const UserKernel& kernel) {
  const base::Json description = to_json(kernel);
  std::lock_guard lock(table().mutex);
  for (const spec::Op& op : table().ops)
    if (op.description == description) return op;
  table().ops.push_back(user_op(kernel));
  return table().ops.back();
}

const spec::Op& add_user_op(const base::Json& description) {
  return add_user_op(user_kernel_from_json(description));
}

}  // namespace mlx_kd::kernels

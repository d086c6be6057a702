// kd ops: the operators that this program knows.
#include <cstdio>
#include <map>
#include <memory>

#include "mlx_kd/base/error.h"
#include "mlx_kd/cli/terminal/table.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/discover/check_ops.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::cli {
namespace {

using base::Json;
using Names = std::vector<std::string>;

template <class Things>
Names names_of(const Things& things) {
  Names result;
  for (const auto& thing : things) result.push_back(thing.name);
  return result;
}

std::string joined(const Names& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

Names dtype_names(const spec::Op& op) {
  Names result;
  for (const spec::Dtype dtype : op.types) result.push_back(spec::name_of(dtype));
  return result;
}

Json suites_json(const spec::Op& op) {
  Json result = Json::object();
  for (const spec::Suite& suite : op.suites)
    for (const spec::Dims& size : suite.sizes) result[suite.name].push_back(size.json());
  return result;
}

// At the first size of the first suite.
Json bound_json(const spec::Op& op) {
  if (op.suites.empty()) return nullptr;
  if (!op.bound) return nullptr;
  const spec::Dims size = spec::complete(op, op.suites.at(0).sizes.at(0));
  const spec::ErrorBound bound = op.bound(size);
  return {
      {"accumulated", bound.accumulated}, {"derivation", bound.derivation}, {"size", size.json()}};
}

// "T", or the name of a type that does not follow the candidate's.
std::string type_text(const spec::Port& port) {
  return port.type.follows()    ? "T"
         : port.type.is_fixed() ? name_of(port.type.at({}, {}))
                                : "by size";
}

Json ports_json(const std::vector<spec::Port>& ports, bool outputs) {
  Json result = Json::array();
  for (const spec::Port& port : ports) {
    Json& one = result.emplace_back(Json{{"name", port.name}, {"type", type_text(port)}});
    if (outputs) one["judge"] = name_of(port.judge);
    if (!port.updates.empty()) one["updates"] = port.updates;
    if (port.strided) one["strided"] = true;
    if (port.optional) one["optional"] = true;
    if (port.int_range) one["int"] = true;
  }
  return result;
}

Json dims_json(const spec::Op& op) {
  Json result = Json::array();
  for (const spec::Dim& dim : op.dims) {
    const bool is_attribute = dim.kind == spec::Dim::Kind::attribute;
    Json& one = result.emplace_back(Json{{"name", dim.name}, {"attribute", is_attribute}});
    if (dim.free) one["free"] = true;
    if (is_attribute) one["default"] = dim.default_value;
  }
  return result;
}

Json op_json(const spec::Op& op) {
  Json variants = Json::array(), inputs = Json::object();
  for (const spec::Variant& variant : op.variants)
    variants.push_back({{"name", variant.name},
                        {"language", variant.language},
                        {"func_name", variant.func_name},
                        {"launch_kind", variant.launch_kind}});
  for (const spec::Scalar& input : op.scalars)
    inputs[input.name] = {{"default", input.default_value}, {"proved", input.proved}};
  return {{"name", op.name},
          {"summary", op.summary},
          {"inputs", names_of(op.inputs)},
          {"outputs", names_of(op.outputs)},
          {"dims", op.dim_names()},
          {"contract", op.contract},
          {"ports",
           {{"inputs", ports_json(op.inputs, false)}, {"outputs", ports_json(op.outputs, true)}}},
          {"sizes", dims_json(op)},
          {"dtypes", dtype_names(op)},
          {"runtime_inputs", inputs},
          {"default_suite", op.suites.empty() ? Json() : Json(op.suites[0].name)},
          {"suites", suites_json(op)},
          {"bound", bound_json(op)},
          {"variants", variants}};
}

void print_json() {
  Json all = Json::array();
  for (const spec::Op& op : kernels::all_ops()) all.push_back(op_json(op));
  std::printf("%s\n", all.dump(2, ' ', true).c_str());
}

void check_all() {
  int count = 0;
  for (const spec::Op& op : kernels::all_ops())
    for (const std::string& fault : discover::check_op(op)) {
      std::printf("%s: %s\n", op.name.c_str(), fault.c_str());
      ++count;
    }
  if (count > 0)
    base::fail("cli", std::to_string(count) + " faults in the operators: correct their op.cpp");
  std::printf("%zu operators, nothing wrong\n", kernels::all_ops().size());
}

void print_table() {
  std::vector<Names> rows = {{"op", "sizes", "inputs -> outputs", "suites", "computes"}};
  for (const spec::Op& op : kernels::all_ops())
    rows.push_back({op.name, joined(op.dim_names()),
                    joined(names_of(op.inputs)) + " -> " + joined(names_of(op.outputs)),
                    joined(names_of(op.suites)), op.summary});
  std::fputs(table_text(rows).c_str(), stdout);
  std::map<std::string, Names> by_types;
  for (const spec::Op& op : kernels::all_ops())
    by_types[joined(dtype_names(op))].push_back(op.name);
  const std::string usual = joined(dtype_names(spec::Op()));
  std::printf("types: %s\n", usual.c_str());
  for (const auto& [types, ops] : by_types)
    if (types != usual) std::printf("  but %s: %s\n", types.c_str(), joined(ops).c_str());
}

}  // namespace

void add_ops(CLI::App& app) {
  auto json = std::make_shared<bool>(false), check = std::make_shared<bool>(false);
  CLI::App* verb = app.add_subcommand("ops", "List the operators, their sizes and suites");
  verb->add_flag("--json", *json, "Print all that is known about each, error bounds too, as JSON");
  verb->add_flag("--check", *check, "Check what each operator declares, at its edge sizes")
      ->excludes("--json");
  verb->callback([json, check] { *check ? check_all() : *json ? print_json() : print_table(); });
}

}  // namespace mlx_kd::cli

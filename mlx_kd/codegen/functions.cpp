#include "mlx_kd/codegen/functions.h"

#include <cmath>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"

namespace mlx_kd::codegen {
namespace {

using Kind = Parameter::Kind;

std::vector<Parameter> parameters_of(const spec::Op& op) {
  std::vector<Parameter> result;
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    const spec::Port& port = op.inputs[i];
    const Kind kind = port.optional    ? Kind::optional_array
                      : port.int_range ? Kind::int_or_array
                                       : Kind::array;
    result.push_back({kind, port.name, "", "", i});
  }
  for (size_t i = op.inputs.size(); i-- > 0 && op.inputs[i].optional;)
    result[i].may_be_left_out = true;
  for (size_t i = 0; i < op.scalars.size(); ++i) {
    const spec::Scalar& scalar = op.scalars[i];
    result.push_back({scalar.integer ? Kind::integer : Kind::real, scalar.name, "",
                      scalar.integer ? std::to_string(static_cast<int64_t>(scalar.default_value))
                                     : base::canonical_json(base::Json(scalar.default_value)),
                      i});
  }
  for (size_t i = 0; i < op.dims.size(); ++i)
    if (op.dims[i].kind == spec::Dim::Kind::attribute)
      result.push_back(
          {Kind::integer, op.dims[i].name, "", std::to_string(op.dims[i].default_value), i, true});
  return result;
}

void take_words(const spec::Op& op, std::vector<Parameter>& parameters) {
  if (op.doc.parameters.size() > parameters.size())
    base::fail("codegen", "the doc of '" + op.name + "' has " +
                              std::to_string(op.doc.parameters.size()) +
                              " parameters, the op has " + std::to_string(parameters.size()) +
                              " inputs, scalars and attributes: correct its op.cpp");
  for (size_t i = 0; i < op.doc.parameters.size(); ++i) {
    parameters[i].name = op.doc.parameters[i].name;
    parameters[i].text = op.doc.parameters[i].text;
  }
}

}  // namespace

std::vector<Function> functions_of(const std::vector<spec::Op>& ops,
                                   const std::map<std::string, std::string>& forms) {
  std::vector<Function> functions;
  std::set<std::string> taken;
  for (const spec::Op& op : ops) {
    if (op.doc.hidden) continue;
    Function function{&op, op.doc.function.empty() ? op.name : op.doc.function, parameters_of(op),
                      ""};
    take_words(op, function.parameters);
    // Attributes without documentation, if the op's own signature reads them off the arrays.
    while (op.signature && function.parameters.size() > op.doc.parameters.size() &&
           function.parameters.back().is_attribute)
      function.parameters.pop_back();
    if (const auto form = forms.find(op.name); form != forms.end()) function.form = form->second;
    std::vector<std::string> names = op.doc.aliases;
    names.push_back(function.name);
    for (const std::string& name : names)
      if (!taken.insert(name).second)
        base::fail("codegen", "two operators have a function '" + name + "', one of them '" +
                                  op.name + "': name another in the doc of its op.cpp");
    functions.push_back(std::move(function));
  }
  return functions;
}

}  // namespace mlx_kd::codegen

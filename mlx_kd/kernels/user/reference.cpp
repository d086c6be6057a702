#include "mlx_kd/kernels/user/reference.h"

#include <mlx/export.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/own_folder.h"
#include "mlx_kd/base/process.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/user/ports.h"

namespace mlx_kd::kernels::user {
namespace {

namespace fs = std::filesystem;

constexpr double kReferenceLimit_s = 60;
constexpr const char* kGraphFile = "graph.mlxfn";
constexpr uint64_t kMostBytes = uint64_t(1) << 40;

std::string numpy_code(spec::Dtype dtype) {
  switch (dtype) {
    case spec::Dtype::float16:
      return "<f2";
    case spec::Dtype::int32:
      return "<i4";
    case spec::Dtype::uint32:
      return "<u4";
    case spec::Dtype::int64:
      return "<i8";
    case spec::Dtype::uint8:
      return "|u1";
    case spec::Dtype::boolean:
      return "|b1";
    default:
      return "<f4";  // bfloat16 as float32, which NumPy has
  }
}

// Version 1 of .npy: magic, version, length of the header, the header, padded to 64 bytes.
void write_npy(const fs::path& path, const void* data, const spec::ArraySpec& array) {
  std::string header = "{'descr': '" + numpy_code(array.type) +
                       "', 'fortran_order': False, 'shape': (" + std::to_string(array.elements()) +
                       ",), }";
  header.append((64 - (10 + header.size() + 1) % 64) % 64, ' ');
  header += '\n';
  std::ofstream out(path, std::ios::binary);
  const auto size = static_cast<uint16_t>(header.size());
  const char begin[] = {'\x93',
                        'N',
                        'U',
                        'M',
                        'P',
                        'Y',
                        1,
                        0,
                        static_cast<char>(size & 0xff),
                        static_cast<char>(size >> 8)};
  out.write(begin, sizeof begin) << header;
  if (array.type != spec::Dtype::bfloat16) {
    out.write(static_cast<const char*>(data), static_cast<std::streamsize>(array.bytes()));
  } else {
    std::vector<float> wide(static_cast<size_t>(array.elements()));
    for (size_t i = 0; i < wide.size(); ++i)
      wide[i] = spec::load_element(data, static_cast<int64_t>(i), array.type);
    out.write(reinterpret_cast<const char*>(wide.data()),
              static_cast<std::streamsize>(wide.size() * sizeof(float)));
  }
  if (!out.flush())
    base::fail("tune", path.string() + " cannot be written: free some space there, or set TMPDIR");
}

// What follows the header, which must have `bytes`.
std::string read_npy(const fs::path& path, size_t bytes) {
  std::string text = base::read_file(path, "tune", kMostBytes);
  const size_t begin = text.size() < 10 ? text.size()
                                        : 10 + static_cast<unsigned char>(text[8]) +
                                              (static_cast<unsigned char>(text[9]) << 8);
  if (text.size() != begin + bytes)
    base::fail("tune", path.string() + " is not what the reference was asked for: try again");
  return text.substr(begin);
}

std::vector<double> read_doubles(const fs::path& path, int64_t elements) {
  const std::string bytes = read_npy(path, static_cast<size_t>(elements) * sizeof(double));
  std::vector<double> result(static_cast<size_t>(elements));
  std::memcpy(result.data(), bytes.data(), bytes.size());
  return result;
}

// An array of its own type from what Python wrote.
void read_array(const fs::path& path, const spec::ArraySpec& array, void* to) {
  const bool is_wide = array.type == spec::Dtype::bfloat16;
  const auto elements = static_cast<size_t>(array.elements());
  const std::string bytes =
      read_npy(path, is_wide ? elements * sizeof(float) : static_cast<size_t>(array.bytes()));
  if (!is_wide) {
    std::memcpy(to, bytes.data(), bytes.size());
    return;
  }
  for (size_t i = 0; i < elements; ++i) {
    float value = 0;
    std::memcpy(&value, bytes.data() + i * sizeof value, sizeof value);
    spec::store_element(to, static_cast<int64_t>(i), array.type, value);
  }
}

base::Json numbers_of(const UserKernel& kernel, const ReferenceCall& call) {
  base::Json result = call.dims.json();
  for (size_t i = 0; i < kernel.scalars.size() && i < call.scalars.size(); ++i)
    result[kernel.scalars[i].name] = call.scalars[i];
  return result;
}

base::Json request_for(const UserKernel& kernel, const ReferenceCall& call, const char* mode) {
  base::Json request = {{"mode", mode},
                        {"text", kernel.reference.text},
                        {"path", kernel.reference.path},
                        {"sha256", kernel.reference.sha256},
                        {"function", kernel.reference.name},
                        {"kernel", kernel.function},
                        {"sensitivity", kernel.judge.name == "bound"},
                        {"only_shapes", false},
                        {"numbers", numbers_of(kernel, call)},
                        {"inputs", base::Json::array()},
                        {"outputs", base::Json::array()}};
  const auto add = [&](const char* where, const std::vector<UserPort>& ports) {
    for (const UserPort& port : ports) {
      const spec::ArraySpec array = array_of(port, call.t, call.dims);
      const std::string file = where + std::to_string(request[where].size()) + ".npy";
      request[where].push_back({{"name", port.name},
                                {"dtype", spec::name_of(array.type)},
                                {"shape", array.shape},
                                {"file", file}});
    }
  };
  add("inputs", kernel.inputs);
  add("outputs", kernel.outputs);
  return request;
}

[[noreturn]] void refuse(const UserReference& reference, const std::string& why) {
  base::misuse("tune", "the reference " + reference.path + " " + why);
}

base::Json ask(const base::ScratchFolder& exchange, const UserReference& reference,
               const base::Json& request) {
  base::write_file_atomically(exchange.file("request.json"), request.dump(), "tune");
  base::write_file_atomically(exchange.file("reference.py"), kernel_source("user/reference.py"),
                              "tune");
  const std::string python = python_program();
  const auto ran = base::run_process(
      {python, exchange.file("reference.py").string(), exchange.file("request.json").string()},
      kReferenceLimit_s);
  if (!ran.started)
    base::misuse("tune", "the Python '" + python +
                             "', which runs references, cannot be started: name one that has MLX "
                             "or NumPy in MLX_KD_PYTHON");
  if (ran.timed_out)
    refuse(reference,
           "took longer than 60 s for the arrays of one size: give smaller sizes, or "
           "make it faster");
  if (!ran.ok())
    refuse(reference,
           "ended its process (" +
               (ran.signal ? "signal " + std::to_string(ran.signal)
                           : "status " + std::to_string(ran.exit_code)) +
               "): " + ran.output.substr(ran.output.size() > 300 ? ran.output.size() - 300 : 0));
  base::Json reply = base::parse_json(base::read_file(exchange.file("reply.json"), "tune"), "tune",
                                      "the reference's answer");
  if (reply.contains("error")) refuse(reference, reply["error"].get<std::string>());
  return reply;
}

void write_inputs(const base::ScratchFolder& exchange, const base::Json& request,
                  const UserKernel& kernel, const std::vector<const void*>& inputs,
                  const ReferenceCall& call) {
  for (size_t i = 0; i < kernel.inputs.size(); ++i)
    write_npy(exchange.file(request["inputs"][i]["file"]), inputs[i],
              array_of(kernel.inputs[i], call.t, call.dims));
}

base::Json export_request(const UserKernel& kernel, const ReferenceCall& call, const char* device) {
  base::Json request = request_for(kernel, call, "export");
  request["device"] = device;
  request["file"] = kGraphFile;
  return request;
}

bool is_recorded(const UserKernel& kernel) {
  return kernel.reference.kind == UserReference::Kind::recorded;
}

// As Op::reference gives them, by the judge's rule. Devices, and MLX itself, flush subnormals.
spec::Reference64 judged(const UserJudge& judge, spec::Dtype type, std::vector<double> y,
                         std::vector<double> terms) {
  spec::Reference64 result;
  result.rounded.resize(y.size());
  result.absolute.assign(y.size(), underflow(type));
  for (size_t i = 0; i < y.size(); ++i) {
    result.rounded[i] = std::abs(y[i]);
    if (judge.name == "close")
      terms[i] = 0x1p24 * (judge.absolute + judge.relative * std::abs(y[i]));
  }
  result.y = std::move(y);
  result.terms = std::move(terms);
  return result;
}

}  // namespace

std::string python_program() {
  const char* const given = std::getenv("MLX_KD_PYTHON");
  if (given && *given) return given;
  std::error_code ignored;
  for (fs::path folder = base::own_folder(); folder.has_relative_path();
       folder = folder.parent_path()) {
    const fs::path own = folder / ".venv" / "bin" / "python";
    if (fs::exists(own, ignored)) return own.string();
  }
  return "python3";
}

std::vector<spec::Reference64> reference_values(const UserKernel& kernel,
                                                const std::vector<const void*>& inputs,
                                                const ReferenceCall& call) {
  const base::ScratchFolder exchange("tune");
  base::Json request = request_for(kernel, call, is_recorded(kernel) ? "arrays" : "values");
  for (size_t i = 0; i < kernel.outputs.size(); ++i)
    request["outputs"][i]["terms"] = "terms" + std::to_string(i) + ".npy";
  if (!is_recorded(kernel)) write_inputs(exchange, request, kernel, inputs, call);
  ask(exchange, kernel.reference, request);
  std::vector<spec::Reference64> result;
  for (size_t i = 0; i < kernel.outputs.size(); ++i) {
    const spec::ArraySpec array = array_of(kernel.outputs[i], call.t, call.dims);
    result.push_back(
        judged(kernel.judge, array.type,
               read_doubles(exchange.file(request["outputs"][i]["file"]), array.elements()),
               read_doubles(exchange.file(request["outputs"][i]["terms"]), array.elements())));
  }
  return result;
}

void reference_bits(const UserKernel& kernel, const std::vector<const void*>& inputs,
                    const ReferenceCall& call, const std::vector<void*>& outputs) {
  const base::ScratchFolder exchange("tune");
  const base::Json request = request_for(kernel, call, is_recorded(kernel) ? "arrays" : "exact");
  if (!is_recorded(kernel)) write_inputs(exchange, request, kernel, inputs, call);
  ask(exchange, kernel.reference, request);
  for (size_t i = 0; i < kernel.outputs.size(); ++i)
    if (outputs[i])
      read_array(exchange.file(request["outputs"][i]["file"]),
                 array_of(kernel.outputs[i], call.t, call.dims), outputs[i]);
}

void recorded_inputs(const UserKernel& kernel, const ReferenceCall& call,
                     const std::vector<void*>& inputs) {
  const base::ScratchFolder exchange("tune");
  base::Json request = request_for(kernel, call, "arrays");
  request["outputs"] = base::Json::array();
  ask(exchange, kernel.reference, request);
  for (size_t i = 0; i < kernel.inputs.size(); ++i)
    read_array(exchange.file(request["inputs"][i]["file"]),
               array_of(kernel.inputs[i], call.t, call.dims), inputs[i]);
}

std::map<std::string, spec::Shape> recorded_shapes(const UserReference& reference) {
  const base::ScratchFolder exchange("tune");
  const base::Json reply = ask(exchange, reference,
                               {{"mode", "arrays"},
                                {"path", reference.path},
                                {"sha256", reference.sha256},
                                {"only_shapes", true}});
  std::map<std::string, spec::Shape> result;
  for (const auto& [name, shape] : reply.at("shapes").items())
    result[name] = shape.get<spec::Shape>();
  return result;
}

bool has_graph(const UserKernel& kernel, const ReferenceCall& call) {
  const base::ScratchFolder exchange("tune");
  return ask(exchange, kernel.reference, export_request(kernel, call, "cpu")).value("mlx", false);
}

Graph exported_reference(const UserKernel& kernel, const ReferenceCall& call,
                         const mlx::core::Device& device) {
  const base::ScratchFolder exchange("tune");
  const base::Json request =
      export_request(kernel, call, device == mlx::core::Device::gpu ? "gpu" : "cpu");
  if (!ask(exchange, kernel.reference, request).value("mlx", false))
    throw std::runtime_error("[tune] the reference " + kernel.reference.path +
                             " has no graph of MLX");
  const auto graph = std::make_shared<mlx::core::ImportedFunction>(
      mlx::core::import_function(exchange.file(kGraphFile).string()));
  return [graph](const spec::Op::Arrays& inputs) { return (*graph)(inputs); };
}

}  // namespace mlx_kd::kernels::user

#include "mlx_kd/devices/simt/program/module.h"

#include <dlfcn.h>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/process.h"

namespace mlx_kd::devices::simt {

std::shared_ptr<Module> Module::load(const std::string& object) {
  const std::shared_ptr<Module> module(new Module);
  module->open(object);
  return module;
}

void Module::open(const std::string& object) {
  object_ = object;
  handle_ = dlopen(object.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle_) base::fail("simt", std::string("cannot load the kernel: ") + dlerror());
  auto* bound = static_cast<const kd_runtime**>(dlsym(handle_, "kd_bound"));
  if (!bound) base::fail("simt", "the compiled kernel has no runtime slot");
  *bound = runtime();
}

Module::~Module() {
  if (handle_) dlclose(handle_);
}

Entry Module::entry(const msl::Kernel& kernel) const {
  Entry found;
  found.thread =
      reinterpret_cast<decltype(found.thread)>(dlsym(handle_, (kernel.symbol + "_thread").c_str()));
  found.group =
      reinterpret_cast<decltype(found.group)>(dlsym(handle_, (kernel.symbol + "_group").c_str()));
  if (!found.thread) base::fail("simt", "the compiled text has no kernel '" + kernel.name + "'");
  return found;
}

std::vector<size_t> Module::group_bytes(const msl::Kernel& kernel) const {
  const auto* sizes =
      static_cast<const unsigned long*>(dlsym(handle_, (kernel.symbol + "_bytes").c_str()));
  if (!sizes) return {};
  return {sizes, sizes + kernel.groups.size()};
}

std::string Module::line_of(const void* code) const {
  Dl_info info;
  if (!dladdr(code, &info)) return "";
  const auto offset = static_cast<const char*>(code) - static_cast<const char*>(info.dli_fbase) - 1;
  char text[32];
  std::snprintf(text, sizeof text, "0x%tx", offset);
  const base::ProcessResult result =
      base::run_process({"addr2line", "-i", "-e", object_, text}, 20);
  return result.ok() ? result.output : "";
}

}  // namespace mlx_kd::devices::simt

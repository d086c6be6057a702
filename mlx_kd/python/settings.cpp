#include "mlx_kd/python/bindings.h"

namespace mlx_kd::python {
namespace {

runtime::Trust parse_trust(const std::string& name) {
  if (name == "owner") return runtime::Trust::owner;
  if (name == "anyone") return runtime::Trust::anyone;
  throw std::invalid_argument("[configure] trust '" + name + "' is neither 'owner' nor 'anyone'");
}

void configure(std::optional<bool> enabled, std::optional<std::string> path,
               std::optional<bool> wait_for_compile, std::optional<bool> allow_approximate,
               std::optional<std::string> trust,
               std::optional<std::vector<std::string>> default_kernels) {
  runtime::Settings settings{
      enabled, std::move(path),           wait_for_compile, allow_approximate,
      {},      std::move(default_kernels)};
  if (trust) settings.trust = parse_trust(*trust);
  runtime::configure(settings);
}

nb::dict settings() {
  const runtime::Effective effective = runtime::settings();
  nb::dict result;
  result["enabled"] = effective.enabled;
  result["path"] = effective.path;
  result["files"] = effective.files;
  result["wait_for_compile"] = effective.wait_for_compile;
  result["allow_approximate"] = effective.allow_approximate;
  result["trust"] = effective.trust == runtime::Trust::owner ? "owner" : "anyone";
  result["default_kernels"] = effective.default_kernels;
  return result;
}

// An os.PathLike or a string, as a string.
std::optional<std::string> path_text(const nb::object& path) {
  if (path.is_none()) return {};
  return nb::cast<std::string>(nb::module_::import_("os").attr("fspath")(path));
}

constexpr const char* kConfigure =
    R"(Says which pins this process uses; what is left out stays as it is.

Parameters
----------
enabled : bool, optional
    Whether pins are used at all.
path : str or os.PathLike, optional
    A pack, or ``"shipped"`` for the packs that came with mlx_kd.
wait_for_compile : bool, optional
    Whether a call waits while another thread compiles its kernel, or runs MLX's operator meanwhile.
allow_approximate : bool, optional
    Whether pins that trade accuracy for speed, within their stated bound, serve too.
trust : {"owner", "anyone"}, optional
    Whether a pack must belong to the user or root and be writable by no other user. A pack is code.
default_kernels : sequence of str, optional
    Operators (:func:`op_names`) whose default kernel runs where no pin serves a call, in place of
    MLX's form. Where that kernel cannot run, MLX's form does, and :func:`explain` says why.

Raises
------
ValueError
    If the pack is missing, damaged or not to be trusted, or there is no such operator; then nothing
    has changed.)";

constexpr const char* kReload =
    R"(Reads the environment and the pack again, and swaps the pins at once for all threads.

Raises
------
ValueError
    If the pack is missing, damaged or not to be trusted; then the old pins stay.)";

constexpr const char* kPrepare = R"(Makes every pin that this process can use ready now.

Returns
-------
int
    How many kernels are ready.)";

}  // namespace

void add_settings(nb::module_& m) {
  using namespace nb::literals;
  using Unlocked = nb::call_guard<nb::gil_scoped_release>;  // these read files and may compile
  m.def(
      "configure",
      [](std::optional<bool> enabled, const nb::object& path, std::optional<bool> wait,
         std::optional<bool> allow_approximate, std::optional<std::string> trust,
         std::optional<std::vector<std::string>> default_kernels) {
        std::optional<std::string> text = path_text(path);
        nb::gil_scoped_release unlocked;
        configure(enabled, std::move(text), wait, allow_approximate, std::move(trust),
                  std::move(default_kernels));
      },
      nb::kw_only(), "enabled"_a = nb::none(), "path"_a = nb::none(),
      "wait_for_compile"_a = nb::none(), "allow_approximate"_a = nb::none(), "trust"_a = nb::none(),
      "default_kernels"_a = nb::none(),
      nb::sig("def configure(*, enabled: bool | None = None, path: str | os.PathLike[str] | None = "
              "None, wait_for_compile: bool | None = None, "
              "allow_approximate: bool | None = None, trust: str | None = None, "
              "default_kernels: collections.abc.Sequence[str] | None = None) -> None"),
      kConfigure);
  m.def(
      "enable",
      [](const nb::object& path) {
        const std::optional<std::string> text = path_text(path);
        nb::gil_scoped_release unlocked;
        runtime::enable(text);
      },
      "path"_a = nb::none(),
      nb::sig("def enable(path: str | os.PathLike[str] | None = None) -> None"),
      "Switches pins on: ``configure(enabled=True, path=path)``.");
  m.def("disable", &runtime::disable, Unlocked(), "Switches pins off: MLX's own operators run.");
  m.def("reset_settings", &runtime::reset_settings, Unlocked(),
        "Forgets what :func:`configure` was given: the environment alone counts.");
  m.def("reload", &runtime::reload, Unlocked(), kReload);
  m.def(
      "settings", &settings, nb::sig("def settings() -> dict[str, typing.Any]"),
      "What is in effect.\n\nThe keys are ``enabled``, ``path``, ``files``, ``wait_for_compile``, "
      "``allow_approximate``, ``trust`` and ``default_kernels``.");
  m.def("prepare", &runtime::prepare, Unlocked(), kPrepare);
}

}  // namespace mlx_kd::python

// Which pins a process uses. Set by the environment, or in code, which wins.
//
//   MLX_KD_USE_DISCOVERED_KERNELS    on (1, on, true, yes) or off (0, off, false, no; the default)
//   MLX_KD_DISCOVERED_KERNELS_PATH   a pack, a bundle, or `shipped` for the packs that came with
//                                    mlx-kd; configs/discovered_kernels.json if not set
//   MLX_KD_WAIT_FOR_COMPILE          on: a call waits while another thread compiles its kernel; off
//                                    (the default): it runs MLX's operator meanwhile
//   MLX_KD_ALLOW_APPROXIMATE         on: pins that trade accuracy for speed serve too; off (the
//                                    default): exact kernels alone
//   MLX_KD_TRUST                     `owner` (the default): packs of the user or root that no other
//                                    else can write; `anyone`: no such check (docs/security.md)
//
// The first two are also read under the names of zmlx.kd, ZMLX_USE_DISCOVERED_KERNELS and
// ZMLX_DISCOVERED_KERNELS_PATH, where ours are not set. The environment is read at the first call
// that needs it and by reload().
//
// A pack that the environment names and that cannot be loaded never stops a program: it is reported
// once on stderr and by stats(), and MLX's operators run. In code the same is an error that is
// thrown.
//
// Threads: any number may call anything here; other threads see the old pins or the new ones,
// whole.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/base/api.h"

namespace mlx_kd::runtime {

enum class Trust {
  owner,   // a regular file of the user or root that no other user can change
  anyone,  // any file: every user who can write it runs code in this process
};

// What a field does not give stays as the environment says.
struct Settings {
  std::optional<bool> enabled;
  std::optional<std::string> path;  // a file, or "shipped"
  std::optional<bool> wait_for_compile;
  std::optional<bool> allow_approximate;
  std::optional<Trust> trust;
  // Operators whose default kernel runs where no pin serves a call, in place of MLX's form; set in
  // code alone. Where that kernel cannot run, MLX's form does, and explain() says why.
  std::optional<std::vector<std::string>> default_kernels;
};

// Takes the settings, those given earlier and not named here kept, and loads the pack if pins are
// on. Throws base::Error (exit code 2) where the pack is missing, damaged or not to be trusted, an
// environment variable has an invalid value, or default_kernels holds a name that no operator has;
// then nothing has changed.
MLX_KD_API void configure(const Settings& settings);

// Forgets what configure() was given: the environment alone counts. Loads as reload() does.
MLX_KD_API void reset_settings();

// configure({.enabled = true, .path = path}); without a path the one in effect.
MLX_KD_API void enable(const std::optional<std::string>& path = {});
MLX_KD_API void disable();

// Reads the environment and the file again, and swaps the pins at once for all threads. Throws as
// configure() does; then the old pins stay. Kernels that are compiled stay compiled, those that
// were dropped stay dropped.
MLX_KD_API void reload();

// What is in effect. Throws base::Error where an environment variable has a value that it cannot
// have.
struct Effective {
  bool enabled = false;
  std::string path;                // as given: "shipped", or a path
  std::vector<std::string> files;  // the files that it names
  bool wait_for_compile = false;
  bool allow_approximate = false;
  Trust trust = Trust::owner;
  std::vector<std::string> default_kernels;  // by name in order
};
MLX_KD_API Effective settings();

// Makes every pin of the pack that this process can use ready now: compiles, or loads what the disk
// holds. Returns how many kernels are ready. Throws as configure() does.
MLX_KD_API size_t prepare();

}  // namespace mlx_kd::runtime

// A file of pinned winners: a run's best_kernels.json, or a pack. docs/formats.md states the
// format.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_kd/packs/entry.h"

namespace mlx_kd::packs {

namespace fs = std::filesystem;

inline constexpr int kNewestSchema = 4;  // what is written
inline constexpr uint64_t kMaxPackBytes = uint64_t(64) << 20;

struct Pack {
  int schema = kNewestSchema;                 // of the text it was read from
  base::Json runtime = base::Json::object();  // {mlx_version, device_name, device_arch, ...}
  std::vector<Entry> entries;
  base::Json other = base::Json::object();  // unknown keys of the file, kept
};

// Schema 1 to 4. Misuse, naming `origin` and the entry, if the text is not JSON, is not a pack, is
// of a newer schema, or an entry is damaged. Never throws anything else.
Pack parse_pack(std::string_view text, const std::string& origin);

// As parse_pack. Misuse if there is no such file or it is larger than kMaxPackBytes.
Pack read_pack(const fs::path& path);

// Misuse unless the file is a pack, or there is none. Its entries are not looked at.
void check_is_pack(const fs::path& path);

// `path` is a pack, or a run directory: then its best_kernels.json. Misuse that says what to do
// where the run has none.
Pack read_winners(const fs::path& path);

// Schema 4: entries in the order of key_before, one per line, keys sorted. Packs that are equal
// give equal bytes. Misuse if the pack is too large to be read again.
std::string write_text(const Pack& pack);
// The same, and empties the pack: each entry is freed as soon as it is written, so a large merge
// takes little more memory than its entries.
std::string write_text(Pack&& pack);

// The whole entry: what a file holds once it is opened out.
base::Json to_json(const Entry& entry);

// Misuse if a file cannot be written there: its folder, or the nearest one that exists, is not
// writable, or something else is in its place. Missing folders are created by the write.
void check_output(const fs::path& path);

// check_output, then an atomic write. Fails (exit 1) on a full disk.
void write_pack(const fs::path& path, const Pack& pack);

}  // namespace mlx_kd::packs

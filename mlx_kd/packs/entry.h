// One pinned winner: which kernel to run for one op, size, type and device, and why it is trusted.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "mlx_kd/spec/claim.h"
#include "mlx_kd/spec/device_id.h"
#include "mlx_kd/spec/op/candidate.h"
#include "mlx_kd/spec/pin.h"
#include "mlx_kd/spec/verdict.h"

namespace mlx_kd::packs {

// Protocols with a meaning of their own: see spec/protocol_name.h.
inline constexpr const char* kFirstVersion = "v1";  // times of zmlx.kd
inline constexpr const char* kNull = "null";        // invented by the null device: never a pin

inline constexpr int kMostContract = 1000000;

// Sizes of one dim, lo to hi, that an entry may serve in addition to its key's.
struct DimRange {
  int64_t lo = 1, hi = 1;
  std::vector<int64_t> sampled;  // where it was measured
};

using spec::ClaimKind;

struct Entry {
  spec::PinKey key;  // shape_signature holds complete dims; empty (schema 1 only): any shape
  std::string candidate_id;
  std::string func_name;
  std::string language;  // "metal", "cuda", "cpp"
  std::string source;    // Metal: the body of a kernel; else the whole file
  base::Json inputs_spec = base::Json::array(), outputs_spec = base::Json::array();
  base::Json knobs = base::Json::object();           // written as `template_params`
  base::Json launch_params = base::Json::object();   // {launch_kind, and the launch knobs}
  base::Json runtime_inputs = base::Json::object();  // {"eps": 1e-06}: as proved
  base::Json target = base::Json::object();          // {"isa": [..], "cores": 2} | {"sm": 90}
  base::Json proof = base::Json::object();           // {version, seeds, .., bit_exact}
  std::string source_hash;
  std::string protocol;  // its name: see spec/protocol_name.h
  spec::Metrics metrics;
  int contract = 1;  // version of the operator's contract that the kernel was made for
  ClaimKind claim_kind = ClaimKind::faster_than_mlx;
  bool approximate = false;                // trades accuracy on purpose, within a bound of its own
  std::optional<DimRange> rows_range;      // of the op's batch dim, by whatever name
  std::map<std::string, DimRange> ranges;  // of free dims, by name
  // From a file of schema 1: "unknown" in the key, and an empty shape, match anything.
  bool loose = false;
  // What this program does not know, kept when the file is rewritten. Unknown keys of `key` and
  // `metrics` are under those names.
  base::Json other = base::Json::object();
};

// What one size of a run measured.
struct Measured {
  spec::Dims dims;  // complete
  spec::Metrics metrics;
  std::string protocol;
  base::Json runtime_inputs = base::Json::object();
  base::Json proof = base::Json::object();
};

// What the entry says of its candidate. Its variant, element type and knobs with their roles are
// not in a pack: who needs them fills them in.
spec::Candidate candidate_as_stored(const Entry& entry);

// The entry of a winner. A Metal candidate's source is in body form.
Entry make_entry(const spec::Candidate& candidate, const Measured& measured,
                 const spec::DeviceId& device, const std::string& mlx_version);

// The ids as zmlx.kd computes them, from what the entry holds.
std::string candidate_id_of(const Entry& entry);
std::string source_hash_of(const Entry& entry);

// Two entries for the same calls: equal keys, targets, contracts, and both approximate or neither.
// A pack holds one of them.
bool same_pin(const Entry& a, const Entry& b);

// Op, dtype, shape (as numbers, whatever the order of their names), device's arch and name, MLX
// version, target, contract, approximate or not: equal for the entries of one pin.
using PinOrder = std::tuple<std::string, std::string, std::map<std::string, int64_t>, std::string,
                            std::string, std::string, std::string, int, bool>;
PinOrder order_of(const Entry& entry);

// Order of entries in a file: that of order_of, approximate ones last.
bool key_before(const Entry& a, const Entry& b);

// "rmsnorm float16 D=2048,rows=1 on AMD EPYC (x86_64)": how messages call an entry.
std::string title(const Entry& entry);

// The ranges of all dims by name, where the op calls its batch dim `batch_dim`.
std::map<std::string, DimRange> ranges_of(const Entry& entry, const std::string& batch_dim);

// States them: of the batch dim as rows_range, of the others by name.
void set_ranges(Entry& entry, const std::map<std::string, DimRange>& ranges,
                const std::string& batch_dim);

// "1 to 512 rows, 1 to 4096 S": its ranges, as messages call them; "" if it has none.
std::string ranges_text(const Entry& entry);

// Whether its times were invented by the null device.
bool is_null(const Entry& entry);

}  // namespace mlx_kd::packs

// How the ranks of a cluster run talk.
//
// Two channels. The launcher's group (MLX's ring or Open MPI) carries results: at a meeting every
// rank gives bytes and gets those of all, by all_gather of their lengths and then of the bytes,
// padded. Both backends spin while they wait and do not notice a rank that is gone, so a meeting
// begins only when all are ready for it, which they say over the second channel: a TCP connection
// of each rank, rank 0 included, to a hub, a thread of rank 0.
//
//   start     rank 0 binds the hub's socket to the address that the launcher uses and gives port
//   and
//             secret (32 random bytes) to all by one all_gather.
//   frame     length (4 bytes, big-endian, at most kMaxFrame), then a JSON object {"kind", ...}.
//   hub    -> {"kind": "challenge", "nonce"}
//   rank   -> {"kind": "hello", "rank", "nonce", "proof", "process"}: proof is the HMAC-SHA-256
//             under the secret of "hello <hub's nonce> <rank>"; process says which machine and pid.
//   hub    -> {"kind": "welcome", "proof", "process"}: of "welcome <rank's nonce> <rank>".
//   both      {"kind": "beat"} every beat_s, by threads that nothing else keeps busy.
//   rank   -> {"kind": "ready", "paced"}: it waits for the next meeting. Until that is over it
//             starts nothing that takes the turn of measuring.
//   hub    -> {"kind": "meet"}: all are ready, and if one of them asks for paced meetings, the last
//             was meeting_every_s ago.
//   rank   -> {"kind": "stop"}: its user ended the run; {"kind": "failed", "why"}: it cannot go on;
//             {"kind": "done"}: it has all it wanted, and goes.
//   hub    -> {"kind": "stop", "rank"}, {"kind": "lost", "rank", "why"}: the run ends for all.
//
// A rank is lost when its connection closes before "done", or after silent_s without a frame. Time
// in which the one who waits was itself stopped does not count. What is lost ends the run: a rank
// that learns of it raises the interrupt, and is ended after grace_s if it is caught in a
// collective operation that cannot end. silent_s + grace_s are below 30 s.
//
// Who cannot prove that he knows the secret within hello_s is disconnected. Frames after that are
// not signed, and the results travel in MLX's own way: the network between the machines has to be
// trusted, as MLX's launchers ask for too.
#pragma once

#include <cstddef>

namespace mlx_kd::discover {

inline constexpr size_t kMaxFrame = 4096;
inline constexpr size_t kMaxMeetingBytes = size_t(1) << 30;  // all ranks together
inline constexpr int kMaxRanks = 4096;

struct RankLimits {
  double beat_s = 1;
  double silent_s = 20;
  double grace_s = 8;
  double hello_s = 10;
  double meeting_every_s = 1;
  double form_s = 60;  // until all ranks of the launcher have joined
};

}  // namespace mlx_kd::discover

// clang-format off
// Where tokens and states are, and the states before the chunks, for both directions of mlstm_chunkwise in Metal.
// Macro: ROWS, tokens of a threadgroup, and rows of the memory that a thread takes, in one column; the column after the
// last of the values is n.
#pragma once
// Where a threadgroup of ROWS tokens is.
struct Place {
  uint head;
  uint chunk;
  int first;  // in the chunk
  int count;  // tokens of the chunk
  ulong token;  // the first of the chunk, of all heads
};
static Place place_of(uint unit, int S, int chunk) {
  const uint blocks = (uint(chunk) + ROWS - 1) / ROWS;
  const uint chunks = (uint(S) + uint(chunk) - 1) / uint(chunk);
  Place p;
  p.head = unit / (blocks * chunks);
  p.chunk = unit / blocks % chunks;
  p.first = int(unit % blocks) * ROWS;
  p.count = min(chunk, S - int(p.chunk) * chunk);
  p.token = ulong(p.head) * ulong(S) + ulong(p.chunk) * ulong(chunk);
  return p;
}
static ulong state_at(uint head, uint at, int S, int chunk, int DHQK, int DHHV) {
  const ulong chunks = (ulong(S) + ulong(chunk) - 1) / ulong(chunk);
  return (ulong(head) * chunks + ulong(at)) * ulong(DHQK) * ulong(DHHV + 1);
}

// The thread's part of the states (heads, chunks, DHQK, DHHV + 1); `sums` gets that after the last chunk.
static void find_states(const device T* k, const device T* v, const device float* c0, const device float* n0,
                        const device float* tokens, device float* states, thread float* sums, int S, int chunk,
                        int DHQK, int DHHV, int row, int column, bool has_state) {
  const int rows = min(ROWS, DHQK - row);
  for (int r = 0; r < ROWS; ++r) {
    sums[r] = 0.0f;
    if (has_state && r < rows) sums[r] = column < DHHV ? c0[(row + r) * DHHV + column] : n0[row + r];
  }
  for (int from = 0; from < S; from += chunk) {
    const int count = min(chunk, S - from);
    for (int r = 0; r < rows; ++r) states[(row + r) * (DHHV + 1) + column] = sums[r];
    states += DHQK * (DHHV + 1);
    const float past = tokens[(count - 1) * GATE_FLOATS + PAST];
    for (int r = 0; r < rows; ++r) sums[r] = past == 0.0f ? 0.0f : past * sums[r];
    for (int s = 0; s < count; ++s) {
      const float weight = weight_of(tokens, count - 1, s);
      const float value = weight == 0.0f ? 0.0f : weight * (column < DHHV ? float(v[s * DHHV + column]) : 1.0f);
      for (int r = 0; r < rows && weight != 0.0f; ++r) sums[r] += float(k[s * DHQK + row + r]) * value;
    }
    tokens += count * GATE_FLOATS;
    k += count * DHQK;
    v += count * DHHV;
  }
}

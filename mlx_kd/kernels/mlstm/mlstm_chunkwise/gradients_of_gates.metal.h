// clang-format off
// The last two kernels of mlstm_chunkwise_vjp.metal, which says what they do: of the gates.
#pragma once
[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_mlstm_between(
    device float* scratch0 [[buffer(0)]],
    device float* scratch1 [[buffer(1)]],
    device float* scratch2 [[buffer(2)]],
    device float* scratch3 [[buffer(3)]],
    constant int& S [[buffer(4)]],
    constant int& heads [[buffer(5)]],
    constant int& DHQK [[buffer(6)]],
    constant int& DHHV [[buffer(7)]],
    constant int& stage_index [[buffer(8)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float parts[THREADS / 32];
  const uint chunks = (uint(S) + uint(stage_index) - 1) / uint(stage_index);
  const uint head = threadgroup_position_in_grid.x / chunks;
  const uint at = threadgroup_position_in_grid.x % chunks;
  const int count = min(stage_index, S - int(at) * stage_index);
  const ulong token = ulong(head) * ulong(S) + ulong(at) * ulong(stage_index);
  const device float* pairs = scratch2 + token * 3 * ulong(stage_index) + 2 * stage_index;
  device float* numbers = scratch0 + ulong(heads) * ulong(S) * GATE_FLOATS + token * ROW_FLOATS;
  for (int j = int(thread_index_in_threadgroup); j < count; j += THREADS) {
    float sum = 0.0f;
    for (int t = j; t < count; ++t)
      for (int s = 0; s < j; ++s) sum += pairs[t * 3 * stage_index + s];
    numbers[j * ROW_FLOATS + OVER] = sum;
  }
  const float past = scratch0[(token + ulong(count) - 1) * GATE_FLOATS + PAST];
  const ulong state = state_at(head, at, S, stage_index, DHQK, DHHV);
  float sum = 0.0f;
  for (int e = int(thread_index_in_threadgroup); e < DHQK * (DHHV + 1) && past != 0.0f; e += THREADS)
    sum += scratch1[state + ulong(e)] * scratch3[state + ulong(e)];
  sum = simd_sum(sum);
  if (thread_index_in_simdgroup == 0) parts[simdgroup_index_in_threadgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (thread_index_in_threadgroup == 0) {
    float whole = 0.0f;
    for (int part = 0; part < THREADS / 32; ++part) whole += parts[part];
    numbers[THROUGH] = past == 0.0f ? 0.0f : past * whole;
  }
}

// sigmoid(-x)
static float falling(float x) {
  const float e = precise::exp(-fabs(x));
  return (x > 0.0f ? e : 1.0f) / (1.0f + e);
}

[[kernel]] void mlx_kd_mlstm_chunkwise_vjp(
    const device float* i [[buffer(0)]],
    const device float* f [[buffer(1)]],
    const device float* dm [[buffer(2)]],
    device float* di [[buffer(3)]],
    device float* df [[buffer(4)]],
    device float* dm0 [[buffer(5)]],
    device float* scratch0 [[buffer(6)]],
    constant int& S [[buffer(7)]],
    constant int& heads [[buffer(8)]],
    constant int& siging [[buffer(9)]],
    constant int& normalizer_grad [[buffer(10)]],
    constant int& has_state [[buffer(11)]],
    constant int& stage_index [[buffer(12)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint head = thread_position_in_grid.x;
  if (head >= uint(heads)) return;
  const int chunks = (S + stage_index - 1) / stage_index;
  float carry = 0.0f;
  float before = 0.0f;  // the state times its cotangent
  for (int at = chunks - 1; at >= 0; --at) {
    const int count = min(stage_index, S - at * stage_index);
    const ulong token = ulong(head) * ulong(S) + ulong(at * stage_index);
    const device float* gates = scratch0 + token * GATE_FLOATS;
    device float* numbers = scratch0 + ulong(heads) * ulong(S) * GATE_FLOATS + token * ROW_FLOATS;
    const float through = numbers[THROUGH];
    float written = 0.0f;
    for (int t = 0; t < count; ++t) {
      numbers[t * ROW_FLOATS + OVER] += written + through;
      written += numbers[t * ROW_FLOATS + TO_STATE];
    }
    if (at == chunks - 1 && normalizer_grad != 0 && siging == 0) carry = dm[head] - (through + written);
    float read = 0.0f;
    for (int t = count - 1; t >= 0; --t) {
      const device float* row = numbers + t * ROW_FLOATS;
      read += row[FROM_PAST];
      float of_i = row[COLUMN] + row[TO_STATE];
      float of_f = row[OVER] + read;
      carry += row[DM];
      const float turn = gates[t * GATE_FLOATS + TURN];
      if (turn == TURN_INPUT) {
        of_i += carry;
        carry = 0.0f;
      } else if (turn == TURN_PAST) {
        of_f += carry;
      }
      di[token + ulong(t)] = siging != 0 ? of_i * falling(i[token + ulong(t)]) : of_i;
      df[token + ulong(t)] = of_f * falling(f[token + ulong(t)]);
    }
    before = through + read;
  }
  if (has_state != 0) dm0[head] = siging != 0 ? 0.0f : before + carry;
}

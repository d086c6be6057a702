#!/bin/sh
# Runs the executor's own switch between fibers on this machine and on AArch64, emulated by qemu.
# Needs g++, aarch64-linux-gnu-g++ and qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user).
# Exit 1 if a value is wrong.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build() {  # compiler output [flags]
  compiler=$1 output=$2
  shift 2
  "$compiler" -std=c++20 -O3 -Wno-psabi "$@" -I"$root" "$root"/tools/run_fibers.cpp \
    "$root"/mlx_kd/devices/simt/executor/executor.cpp "$root"/mlx_kd/devices/simt/executor/fiber.cpp \
    "$root"/mlx_kd/devices/simt/executor/group.cpp "$root"/mlx_kd/devices/simt/executor/group_memory.cpp \
    "$root"/mlx_kd/devices/simt/executor/guard.cpp "$root"/mlx_kd/devices/simt/executor/stack_pool.cpp \
    "$root"/mlx_kd/base/clock.cpp "$root"/mlx_kd/base/error.cpp -pthread -o "$output"
}
build g++ "$work/here"
build aarch64-linux-gnu-g++ "$work/there" -static
printf 'here     ' && "$work/here"
printf 'aarch64  ' && qemu-aarch64 "$work/there"

#!/bin/sh
# Compares walks of every strategy on this machine with those on AArch64, emulated by qemu.
# Needs g++, aarch64-linux-gnu-g++ and qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user) and
# the headers of nlohmann_json. Prints the two hashes; exit 1 if they differ.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/include"
ln -s /usr/include/nlohmann "$work/include/nlohmann"
build() {  # compiler output [flags]
  compiler=$1 output=$2
  shift 2
  "$compiler" -std=c++20 -O3 -ffp-contract=off -Wno-psabi "$@" -I"$root" -I"$work/include" \
    "$root"/tools/print_walks.cpp "$root"/mlx_kd/search/*.cpp "$root"/mlx_kd/spec/space.cpp \
    "$root"/mlx_kd/spec/named_ints.cpp "$root"/mlx_kd/base/error.cpp "$root"/mlx_kd/base/json.cpp \
    -o "$output"
}
build g++ "$work/here"
build aarch64-linux-gnu-g++ "$work/there" -static
here=$("$work/here" | sha256sum)
there=$(qemu-aarch64 "$work/there" | sha256sum)
echo "here    $here"
echo "aarch64 $there"
[ "$here" = "$there" ]

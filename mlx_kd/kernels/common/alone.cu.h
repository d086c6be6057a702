// clang-format off
// Kernels of a text that are compiled one at a time, when they are first launched: devices/cuda tells by
// KD_ALONE in a text that it can be asked for one (KD_ALONE is defined, and KD_ALONE_<name> of the one wanted).
#pragma once

#ifdef KD_ALONE
#define KD_SECOND(first, second, ...) second
#define KD_IS_WANTED(...) KD_SECOND(__VA_ARGS__, 0, 0)
#define KD_IF_0(...)
#define KD_IF_1(...) __VA_ARGS__
#define KD_JOINED(a, b) a##b
#define KD_IF(wanted) KD_JOINED(KD_IF_, wanted)
#define KD_WHERE_WANTED(name, ...) KD_IF(KD_IS_WANTED(KD_ALONE_##name))(__VA_ARGS__)
#else
#define KD_WHERE_WANTED(name, ...) __VA_ARGS__
#endif

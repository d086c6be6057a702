// The names of Metal for C++ and CUDA: what <metal_stdlib> gives a kernel.
#pragma once

#include "kd_target.h"
//
#include "kd_types.h"
#include "kd_vector.h"
#include "kd_math.h"
#include "kd_common.h"
#include "kd_integer.h"
#include "kd_pack.h"
#include "kd_matrix.h"
#include "kd_atomic.h"
#include "kd_place.h"
#include "kd_simd.h"
#include "kd_internals.h"
#include "kd_simdgroup_matrix.h"
#include "kd_limits.h"
#include "kd_traits.h"
#include "kd_log.h"
#include "kd_names.h"

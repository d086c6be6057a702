/* The one parameter of every kernel that takes its arguments as a list: CUDA C++ (by value, as
   `const __grid_constant__ kd_arguments a`) and C++ on a CPU (by pointer).

   Arrays are in the order of the operator's ports, sizes in the order of its complete dims, numbers
   in the order of its scalars; what an operator does not use is 0. The compiler defines the
   indices: KD_DIM_<name>, KD_SCALAR_<name>, and KD_TYPE_<port>: 0 float32, 1 float16, 2 bfloat16, 3
   int32, 4 uint32, 5 int64, 6 uint8, 7 bool; KD_DTYPE is that number of the candidate's own type.

   Strides are in elements, inputs first and outputs after them (strides[number of inputs + i] is
   output i), right-aligned: strides[port][3] belongs to the last axis. An output that updates an
   input has the same pointer as that input.

   For CUDA, which copies it for each launch, the compiler also defines how many there are of each.
 */
#ifndef KD_ARGUMENTS_H
#define KD_ARGUMENTS_H

#ifndef KD_INPUTS
#define KD_INPUTS 16
#define KD_OUTPUTS 8
#define KD_DIMS 16
#define KD_SCALARS 8
#endif

struct kd_arguments {
  const void* inputs[KD_INPUTS];
  void* outputs[KD_OUTPUTS];
  void* scratch[4]; /* uninitialised; the stages of one call share them */
  long dims[KD_DIMS];
  double scalars[KD_SCALARS];
  long strides[KD_INPUTS + KD_OUTPUTS][4];
  long stage; /* the index that the stage was given */
};

#endif

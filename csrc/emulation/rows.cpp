#include "cuda/rows.cu"  // NOLINT: compiled for the CPU

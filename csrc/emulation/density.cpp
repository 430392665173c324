#include "cuda/density.cu"  // NOLINT: compiled for the CPU

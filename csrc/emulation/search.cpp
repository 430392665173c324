#include "cuda/search.cu"  // NOLINT: compiled for the CPU

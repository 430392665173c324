#include "cuda/hue_cross_entropy.cu"  // NOLINT: compiled for the CPU

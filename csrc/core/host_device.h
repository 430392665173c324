// Marks what runs on the CPU and on the GPU alike.
#pragma once

#if defined(__CUDACC__)
#define PYHUE_HOST_DEVICE __host__ __device__
#else
#define PYHUE_HOST_DEVICE
#endif

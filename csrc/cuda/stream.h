// CUDA's name for a stream, without CUDA's headers: the same type, declared again.
#pragma once

struct CUstream_st;
using cudaStream_t = CUstream_st*;

# The kernels for CUDA, and pyhue/_torch_cuda.so: the same torch ops for CUDA tensors, in a library of its own that is
# loaded only where torch has CUDA. PYHUE_CUDA=ON compiles the kernels also where torch has not: for CI.
if(PYHUE_CUDA STREQUAL "OFF")
  return()
endif()
include(CheckLanguage)
if(NOT CMAKE_CUDA_COMPILER)
  unset(CMAKE_CUDA_COMPILER CACHE)  # the build directory outlives an install: nvcc may have come since the last one
endif()
check_language(CUDA)
set(torch_has_cuda FALSE)
if(TARGET _torch AND EXISTS "${torch_dir}/lib/libtorch_cuda.so")
  set(torch_has_cuda TRUE)
endif()
if(PYHUE_CUDA STREQUAL "ON" AND NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "PYHUE_CUDA=ON, but there is no CUDA compiler")
endif()
if(NOT PYHUE_CUDA STREQUAL "ON" AND NOT (CMAKE_CUDA_COMPILER AND torch_has_cuda))
  message(STATUS "pyhue: building without CUDA")
  return()
endif()

# Machine code for A100 and H100, and PTX that newer GPUs compile; CMake's own variable CUDAARCHS says otherwise.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 90-virtual)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
enable_language(CUDA)

add_library(pyhue_cuda STATIC
  csrc/cuda/density.cu
  csrc/cuda/hue_cross_entropy.cu
  csrc/cuda/rows.cu
  csrc/cuda/search.cu)
target_include_directories(pyhue_cuda PUBLIC csrc)
target_compile_options(pyhue_cuda PRIVATE --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra)
if(CMAKE_CUDA_ARCHITECTURES MATCHES "90a")
  target_compile_definitions(pyhue_cuda PRIVATE PYHUE_SM90A)
endif()
if(PYHUE_WERROR)
  target_compile_options(pyhue_cuda PRIVATE -Werror=all-warnings -Xcompiler=-Werror -Xptxas=-v)
endif()
message(STATUS "pyhue: building the CUDA kernels for ${CMAKE_CUDA_ARCHITECTURES}")

# Checks what launches ask of a GPU, without one: its runtime stands in for CUDA's.
find_package(CUDAToolkit REQUIRED)
add_executable(pyhue_launches EXCLUDE_FROM_ALL csrc/launches/main.cpp csrc/launches/runtime.cpp)
target_include_directories(pyhue_launches SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
target_link_libraries(pyhue_launches PRIVATE pyhue_flags pyhue_cuda)
set_target_properties(pyhue_launches PROPERTIES LINKER_LANGUAGE CXX)

if(NOT TARGET _torch)
  return()
endif()
add_library(pyhue_torch_cuda OBJECT
  csrc/bindings/torch_cuda_density.cpp
  csrc/bindings/torch_cuda_hue_cross_entropy.cpp
  csrc/bindings/torch_cuda_search.cpp)
target_include_directories(pyhue_torch_cuda PRIVATE csrc)
target_include_directories(pyhue_torch_cuda SYSTEM PRIVATE "${torch_dir}/include")
target_compile_definitions(pyhue_torch_cuda PRIVATE TORCH_TARGET_VERSION=0x020a000000000000)
target_link_libraries(pyhue_torch_cuda PRIVATE pyhue_flags)
if(NOT torch_has_cuda)
  message(STATUS "pyhue: torch has no CUDA; compiling the CUDA ops without linking them")
  return()
endif()
add_library(_torch_cuda MODULE $<TARGET_OBJECTS:pyhue_torch_cuda>)
set_target_properties(_torch_cuda PROPERTIES PREFIX "" LINKER_LANGUAGE CXX SKIP_BUILD_RPATH ON)
# The CUDA runtime is linked in, so torch's may be another; the driver has to be new enough for both.
file(STRINGS "${torch_dir}/version.py" torch_cuda REGEX "^cuda")
if(torch_cuda MATCHES "'([0-9]+)[.]" AND CUDAToolkit_VERSION_MAJOR GREATER CMAKE_MATCH_1)
  message(WARNING "pyhue: nvcc is of CUDA ${CUDAToolkit_VERSION_MAJOR}, torch of CUDA ${CMAKE_MATCH_1}: the kernels "
                  "need a driver for CUDA ${CUDAToolkit_VERSION_MAJOR}, also where torch does not")
endif()
target_link_libraries(_torch_cuda PRIVATE pyhue_cuda CUDA::cudart_static
  "${torch_dir}/lib/libtorch_cuda.so" "${torch_dir}/lib/libtorch_cpu.so" "${torch_dir}/lib/libtorch.so")
install(TARGETS _torch_cuda DESTINATION pyhue)

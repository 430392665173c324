# The CUDA kernels for the CPU (csrc/emulation), for tests: pyhue/_emulation on NumPy arrays, and where torch is
# pyhue/_torch_emulation.so, the CUDA ops on CPU tensors.
if(NOT PYHUE_EMULATION)
  return()
endif()
add_library(pyhue_emulation OBJECT
  csrc/emulation/density.cpp
  csrc/emulation/fibers.cpp
  csrc/emulation/hue_cross_entropy.cpp
  csrc/emulation/rows.cpp
  csrc/emulation/search.cpp)
target_include_directories(pyhue_emulation PUBLIC csrc)
target_link_libraries(pyhue_emulation PUBLIC pyhue_flags)
# CUDA's pragmas are not GCC's.
target_compile_options(pyhue_emulation PRIVATE -Wno-unknown-pragmas)
if(PYHUE_SANITIZE)
  # No sanitized test calls it, and optimising it takes minutes.
  set_source_files_properties(csrc/emulation/hue_cross_entropy.cpp PROPERTIES COMPILE_OPTIONS -O0)
endif()

pybind11_add_module(_emulation csrc/emulation/module.cpp)
target_link_libraries(_emulation PRIVATE pyhue_emulation)
install(TARGETS _emulation DESTINATION pyhue)

if(NOT TARGET _torch)
  return()
endif()
add_library(_torch_emulation MODULE
  csrc/bindings/torch_cuda_density.cpp
  csrc/bindings/torch_cuda_hue_cross_entropy.cpp
  csrc/bindings/torch_cuda_search.cpp)
set_target_properties(_torch_emulation PROPERTIES PREFIX "" SKIP_BUILD_RPATH ON)
target_include_directories(_torch_emulation SYSTEM PRIVATE "${torch_dir}/include")
target_compile_definitions(_torch_emulation PRIVATE TORCH_TARGET_VERSION=0x020a000000000000 PYHUE_EMULATED)
target_link_libraries(_torch_emulation PRIVATE pyhue_emulation
  "${torch_dir}/lib/libtorch_cpu.so" "${torch_dir}/lib/libtorch.so")
install(TARGETS _torch_emulation DESTINATION pyhue)

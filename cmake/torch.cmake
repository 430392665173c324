# pyhue/_torch.so: the kernels as torch custom ops, on torch's stable ABI, so one build serves every
# torch >= 2.10. Torch is looked for in the environment that pyhue is installed into, or where PYHUE_TORCH_DIR says,
# never in the build environment: naming it as a build requirement would download gigabytes.
if(PYHUE_TORCH STREQUAL "OFF")
  return()
endif()
execute_process(
  COMMAND ${Python_EXECUTABLE} -c "import sysconfig; print(sysconfig.get_path('platlib'))"
  OUTPUT_VARIABLE platlib OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
set(torch_dir "${platlib}/torch")
if(PYHUE_TORCH_DIR)
  set(torch_dir "${PYHUE_TORCH_DIR}")
endif()
if(NOT EXISTS "${torch_dir}/include/torch/csrc/stable/library.h")
  if(PYHUE_TORCH STREQUAL "ON")
    message(FATAL_ERROR "PYHUE_TORCH=ON, but there is no torch >= 2.10 at ${torch_dir}")
  endif()
  message(STATUS "pyhue: no torch >= 2.10 at ${torch_dir}; building without the torch ops")
  return()
endif()
message(STATUS "pyhue: building the torch ops against ${torch_dir}")

add_library(_torch MODULE
  csrc/bindings/torch.cpp
  csrc/bindings/torch_density.cpp
  csrc/bindings/torch_executor.cpp
  csrc/bindings/torch_hue_cross_entropy.cpp)
set_target_properties(_torch PROPERTIES PREFIX "")
target_include_directories(_torch SYSTEM PRIVATE "${torch_dir}/include")
# The oldest torch that the library may run with: 2.10.0, as the headers encode it.
target_compile_definitions(_torch PRIVATE TORCH_TARGET_VERSION=0x020a000000000000)
target_link_libraries(_torch PRIVATE pyhue_core
  "${torch_dir}/lib/libtorch_cpu${CMAKE_SHARED_LIBRARY_SUFFIX}" "${torch_dir}/lib/libtorch${CMAKE_SHARED_LIBRARY_SUFFIX}")
# Torch is imported before this library is loaded, so its libraries are found by name.
set_target_properties(_torch PROPERTIES SKIP_BUILD_RPATH ON)
install(TARGETS _torch DESTINATION pyhue)

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

# pyhue/_torch_autograd_VERSION.so: autograd in C++, which the stable ABI does not have, for the torch of this very
# version. Where there is none for the torch that runs, autograd is Python's.
file(STRINGS "${torch_dir}/version.py" torch_version REGEX "^__version__ = ")
string(REGEX REPLACE "^__version__ = ['\"]([^'\"]*)['\"].*$" "\\1" torch_version "${torch_version}")
string(REGEX REPLACE "[^A-Za-z0-9]" "_" torch_version "${torch_version}")
set(autograd "_torch_autograd_${torch_version}")
add_library(${autograd} MODULE csrc/bindings/torch_autograd.cpp)
set_target_properties(${autograd} PROPERTIES PREFIX "" SKIP_BUILD_RPATH ON)
target_include_directories(${autograd} PRIVATE csrc)
target_include_directories(
  ${autograd} SYSTEM PRIVATE "${torch_dir}/include" "${torch_dir}/include/torch/csrc/api/include")
target_link_libraries(
  ${autograd} PRIVATE pyhue_flags "${torch_dir}/lib/libtorch_cpu.so" "${torch_dir}/lib/libtorch.so"
                      "${torch_dir}/lib/libc10.so")
install(TARGETS ${autograd} DESTINATION pyhue)

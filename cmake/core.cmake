# The kernels: a static library that needs nothing. csrc/core/kernels.cpp is compiled once for each
# instruction-set level; csrc/core/isa.cpp chooses among them at run time.

# A floating-point expression means the same at every level: no contraction into FMA behind our back.
add_library(pyhue_flags INTERFACE)
target_compile_options(pyhue_flags INTERFACE -Wall -Wextra -ffp-contract=off -fno-math-errno)
if(PYHUE_WERROR)
  target_compile_options(pyhue_flags INTERFACE -Werror)
endif()
if(PYHUE_SANITIZE STREQUAL "THREAD")
  target_compile_options(pyhue_flags INTERFACE -fsanitize=thread -g)
  target_link_options(pyhue_flags INTERFACE -fsanitize=thread)
elseif(PYHUE_SANITIZE)
  target_compile_options(pyhue_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined -g)
  target_link_options(pyhue_flags INTERFACE -fsanitize=address,undefined)
endif()

set(pyhue_levels generic)
set(pyhue_flags_generic "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  list(APPEND pyhue_levels avx2 avxvnni avx512 avx512vnni)
  set(pyhue_flags_avx2 -march=x86-64-v3)
  set(pyhue_flags_avxvnni ${pyhue_flags_avx2} -mavxvnni)
  set(pyhue_flags_avx512 -march=x86-64-v4 -mprefer-vector-width=512)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC 12 takes the undefined registers inside its own AVX-512 intrinsics for a mistake of ours (PR 105593).
    list(APPEND pyhue_flags_avx512 -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
  set(pyhue_flags_avx512vnni ${pyhue_flags_avx512} -mavx512vnni)
  if(PYHUE_SANITIZE)
    # They read and write what avx2 and avx512 do, and differ in one product of registers (screen_products.h).
    list(REMOVE_ITEM pyhue_levels avxvnni avx512vnni)
  endif()
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
  list(APPEND pyhue_levels neon neondotprod neoni8mm)
  set(pyhue_flags_neon -DPYHUE_NEON)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Before it allocates registers GCC schedules loads so early that accumulators spill.
    list(APPEND pyhue_flags_neon -fno-schedule-insns)
  endif()
  set(pyhue_flags_neondotprod ${pyhue_flags_neon} -march=armv8.2-a+dotprod)
  set(pyhue_flags_neoni8mm ${pyhue_flags_neon} -march=armv8.2-a+dotprod+i8mm)
endif()

add_library(pyhue_core STATIC
  csrc/core/audit.cpp
  csrc/core/density.cpp
  csrc/core/density_backward.cpp
  csrc/core/hue_cross_entropy.cpp
  csrc/core/isa.cpp
  csrc/core/pack.cpp
  csrc/core/pack_vectors.cpp
  csrc/core/project.cpp
  csrc/core/rows.cpp
  csrc/core/search.cpp
  csrc/core/visit.cpp
  csrc/core/within.cpp
  csrc/core/tiles.cpp)
target_include_directories(pyhue_core PUBLIC csrc)
target_link_libraries(pyhue_core PUBLIC pyhue_flags)
foreach(level IN LISTS pyhue_levels)
  add_library(pyhue_${level} OBJECT csrc/core/kernels.cpp)
  target_include_directories(pyhue_${level} PRIVATE csrc)
  target_link_libraries(pyhue_${level} PRIVATE pyhue_flags)
  target_compile_options(pyhue_${level} PRIVATE ${pyhue_flags_${level}})
  target_compile_definitions(pyhue_${level} PRIVATE PYHUE_LEVEL=${level})
  string(TOUPPER ${level} upper)
  target_compile_definitions(pyhue_core PRIVATE PYHUE_HAS_${upper})
  target_link_libraries(pyhue_core PRIVATE $<BUILD_INTERFACE:pyhue_${level}>)
  target_sources(pyhue_core PRIVATE $<TARGET_OBJECTS:pyhue_${level}>)
endforeach()

# Searches beside additions, to be run under ThreadSanitizer: make race.
add_executable(pyhue_stress EXCLUDE_FROM_ALL csrc/stress/main.cpp csrc/bindings/thread_pool.cpp)
target_link_libraries(pyhue_stress PRIVATE pyhue_core Threads::Threads)

# What a CPU answers, and the instructions that it takes: make test-arm.
add_executable(pyhue_bits EXCLUDE_FROM_ALL csrc/portability/bits.cpp)
add_executable(pyhue_tile EXCLUDE_FROM_ALL csrc/portability/tile.cpp)
target_link_libraries(pyhue_bits PRIVATE pyhue_core)
target_link_libraries(pyhue_tile PRIVATE pyhue_core)

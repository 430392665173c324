# pyhue/_core: the kernels for NumPy.
pybind11_add_module(_core csrc/bindings/python.cpp csrc/bindings/python_search.cpp
  csrc/bindings/thread_pool.cpp)
target_link_libraries(_core PRIVATE pyhue_core Threads::Threads)
target_compile_definitions(_core PRIVATE PYHUE_VERSION="${SKBUILD_PROJECT_VERSION}")
install(TARGETS _core DESTINATION pyhue)

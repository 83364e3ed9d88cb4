# Installs all Python packages in .venv; needs Python >= 3.11, make and a C++17 compiler. `make chip`
# also needs cppcheck, arm-none-eabi-gcc and qemu-system-arm; `make native-arm` needs
# aarch64-linux-gnu-g++ and qemu-aarch64.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile
HOSTILE_SECONDS ?= 3600
SOURCES := pyproject.toml CMakeLists.txt $(wildcard native/*) $(shell find src -name '*.py' -o -name '*.pyi')

.PHONY: train test test-slow coverage extras test-extras chip test-hostile release docs check lint types native native-arm format clean

train: $(VENV)/installed  ## train DS-TD3 on HalfCheetah-v5 for 100,000 steps
	$(BIN)/sparl train --method DS-TD3 --env HalfCheetah-v5 --seed 0 --steps 100_000

test: $(VENV)/installed-test  ## run the fast tests on all cores
	$(PYTEST) $(COVER) -m "not slow" $(TESTS)

test-slow: $(VENV)/installed-test  ## run the slow tests; TESTS=tests/hostile selects those in one folder
	$(PYTEST) $(COVER) -m slow $(TESTS)

coverage: $(VENV)/installed-test  ## print the branch coverage of tests that were run with COVER="--cov --cov-append ..."
	$(BIN)/coverage report

extras: $(VENV)/installed-extras  ## install everything that optional features need

test-extras: $(VENV)/installed-extras  ## run the tests of optional features; TESTS=tests/extras/pytorch selects those in one folder
	OMP_NUM_THREADS=1 $(PYTEST) -o addopts=--strict-markers $(or $(TESTS),tests/extras)

chip: $(VENV)/installed-test  ## test and lint the C library that learns on microcontrollers; boards are emulated
	$(PYTEST) $(COVER) -o addopts=--strict-markers tests/chip
	cd chip && cppcheck --std=c99 --enable=warning,style,performance,portability --quiet \
	  --inline-suppr --suppress=missingIncludeSystem --suppressions-list=misra_exceptions.txt \
	  --addon=misra -D__GNUC__ -DSPARL_CHIP_METHOD=3 -DSPARL_CHIP_MOMENTS=3 --error-exitcode=1 \
	  sparl_chip.c

release: $(VENV)/bin/python  ## build the source package and the wheel; train with the wheel, without a compiler
	rm -rf build/dist build/empty && $(BIN)/python -m pip install --quiet build 'twine>=6.1'
	$(BIN)/python -m build --outdir build/dist
	$(BIN)/python -m twine check --strict build/dist/*
	$(BIN)/python -m venv build/empty && build/empty/bin/pip install --quiet build/dist/*.whl
	cd build && env -i HOME=$(abspath build) PATH=$(abspath build/empty/bin) \
	  sparl train --env Pendulum-v1 --steps 300 --warmup-env-steps 100 --run-dir wheel-run --overwrite

docs: $(VENV)/installed-docs  ## build the documentation site in build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: lint types native  ## run the static checks, and the core's own tests under sanitizers

lint: $(VENV)/installed-dev  ## check style, spelling, import rules and the format of the Python and C++ code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/python .ci/plain_english.py
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror native/*.h native/*.inl native/*.cpp tests/native/*.cpp

types: $(VENV)/installed-dev  ## check types, and that the stub of the native module is up to date
	$(BIN)/mypy
	$(BIN)/python -m nanobind.stubgen -q -m sparl._native -o build/_native.pyi
	diff build/_native.pyi src/sparl/_native.pyi

# Builds the core's own test programs under $$sanitizer.
sanitized = PATH="$(abspath $(BIN)):$$PATH" && cmake -S . -B build/$$sanitizer \
  -DSPARL_NATIVE_TESTS=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DCMAKE_CXX_FLAGS="-fsanitize=$$sanitizer -fno-sanitize-recover=all" >/dev/null && \
  cmake --build build/$$sanitizer --parallel 2

native: $(VENV)/installed-dev  ## run the core's own tests under sanitizers
	for sanitizer in thread address,undefined; do \
	  $(sanitized) && build/$$sanitizer/native_tests && build/$$sanitizer/native_fuzz 10 || exit 1; \
	done

test-hostile: $(VENV)/installed-dev  ## generate hostile files for HOSTILE_SECONDS, and search for one that causes harm
	sanitizer=address,undefined; $(sanitized)
	@seed=$$(date +%s); failed=0; \
	build/address,undefined/native_fuzz $$(($(HOSTILE_SECONDS) / 4)) $$seed || failed=1; \
	$(BIN)/python tests/fuzz/loaders.py --seconds $$(($(HOSTILE_SECONDS) / 4)) --seed $$seed || failed=1; \
	$(BIN)/python tests/hostile/campaign.py --seconds $$(($(HOSTILE_SECONDS) / 2)) --seed $$seed || failed=1; \
	exit $$failed

native-arm: $(VENV)/installed-dev  ## run the core's own tests for 64-bit ARM, cross-compiled and emulated
	PATH="$(abspath $(BIN)):$$PATH" && cmake -S . -B build/arm -DSPARL_NATIVE_TESTS=ON \
	  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_EXE_LINKER_FLAGS=-static >/dev/null && \
	cmake --build build/arm --parallel 2 && qemu-aarch64 build/arm/native_tests

format: $(VENV)/installed-dev  ## format the Python and C++ code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i native/*.h native/*.inl native/*.cpp tests/native/*.cpp

clean:  ## remove everything that make created, except runs
	rm -rf $(VENV) build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "sparl needs Python >= 3.11; choose one with make PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python $(SOURCES)
	@echo "installing sparl and the packages that it needs in $(VENV); this takes a few minutes"
	$(BIN)/python -m pip install .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet '.[test]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet '.[dev]'
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet '.[docs]'
	@touch $@

$(VENV)/installed-extras: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet '.[test-extras]'
	@touch $@

# The same few words run everything, here and in CI. Each target makes what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := pyproject.toml setup.py $(wildcard native/*)

.PHONY: run test test-isa sanitize fidelity lint fmt bench instructions docs clean

run: .venv/.installed            ## the default model, its weights in one process and its context in another
	$(BIN)/twofold run smollm2 "Why is the sky blue?" --split

test: .venv/.test                ## every test that needs no other framework; system tests apart, as they measure memory
	$(BIN)/python -m pytest tests/unit tests/bits
	$(BIN)/python -m pytest tests/system tests/network

test-isa: .venv/.isa             ## the kernels crossed to ARM and RISC-V and run under QEMU (Debian: apt install qemu-user)
	$(BIN)/python -m pytest tests/isa -rs

CHECKED := frame calls gguf gguf_values strings bpe choosing links tcp ws weight_processor guests door mutations
sanitize: .venv/.test            ## what reads bytes of others, in C, under AddressSanitizer and UBSan (GCC)
	rm -rf build/sanitize
	TWOFOLD_SANITIZE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/sanitize .
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
	  PYTHONPATH=build/sanitize $(BIN)/python -m pytest $(CHECKED:%=tests/unit/test_%.py)

fidelity: .venv/.reference       ## beside Transformers and llama.cpp; installs torch
	$(BIN)/python -m pytest tests/fidelity

lint: .venv/.lint                ## ruff, mypy, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: .venv/.lint                 ## format the Python
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.test               ## first table: bench/results/first.json; run it on an idle machine
	$(BIN)/python bench/first.py

instructions: .venv/.test        ## instruction counts of the hot kernels against bench/results/instructions.json
	$(BIN)/python bench/instructions.py --check

docs: .venv/.test                ## write the table of parameters, and check that every link in the docs leads somewhere
	$(BIN)/python docs/parameters.py
	$(BIN)/python -m pytest tests/unit/test_docs.py

clean:
	rm -rf .venv build src/twofold/*.so src/*.egg-info

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "twofold: $(PYTHON) not found; install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "twofold: no virtual environment could be made; on Debian: apt install python3-venv" >&2; exit 1; }

.venv/.installed: $(SOURCES) | .venv/bin/python
	@command -v $${CC:-cc} >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null || \
	  { echo "twofold: no C compiler found; install one (Debian and Ubuntu: apt install gcc libc6-dev)" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/.test: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

.venv/.lint: .venv/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[lint]'
	@touch $@

.venv/.isa: .venv/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[isa]'
	@touch $@

.venv/.reference: .venv/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[reference]'
	@touch $@

# make demo · make test · make check · make bench · make backbones · make faults · make fuzz · make lock: everything else is set up by these on a fresh machine.

PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
STAMP := $(VENV)/.installed
EXTRAS := offline data export sentences search xlsx

# Compiled modules are kept even where a machine forbids it: without them every process spends seconds on torch alone.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check bench backbones faults fuzz lock clean

demo: $(STAMP)
	$(VENV)/bin/msrn demo

test: $(STAMP)  # one thread a process: two that share cores slow each other down; slow files come early
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(VENV)/bin/ruff check src tests examples benchmarks docs
	$(VENV)/bin/ruff format --check src tests examples benchmarks docs
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(STAMP)  # half an hour, on a machine that does nothing else; prints a table, writes docs/benchmarks.md
	$(VENV)/bin/python benchmarks/run.py

backbones: $(STAMP)  # half an hour; goes on where it was stopped; writes docs/reference/backbones.md
	OMP_NUM_THREADS=1 nice $(VENV)/bin/python benchmarks/backbones.py

faults: $(STAMP)  # an hour: 50 trainings killed at random instants, a fault at every write, processes, 200,000 predictions
	MSRN_KILLS=50 OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -s --timeout 3000 tests/faults

fuzz: $(STAMP)  # ten minutes: 100,000 damaged and hostile files, fed to everything that reads files
	MSRN_FUZZ=100000 MSRN_FUZZ_WORKERS=2 OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -s --timeout 3000 tests/fuzz/test_fuzz.py

# Exact versions and hashes; installed once, and again only when the lock or the project's metadata change.
$(STAMP): requirements.lock pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --require-hashes -r requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --no-deps --no-build-isolation -e .
	touch $(STAMP)

lock:
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header $(addprefix --extra ,$(EXTRAS)) --group dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) build dist

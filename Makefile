# Two commands matter: `make demo` and `make test`. Both set up their own virtual environment.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST  = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest
# Two worker processes and one thread each: on two cores anything else is slower. Status 3 says that
# pytest ended, not that a test failed; a worker's own mistake is then hidden behind the loss of the
# worker. All tests run again in one process, which shows it if it is there again.
define run_tests
$(PYTEST) -n 2 --dist worksteal $(1) || { status=$$?; [ $$status -eq 3 ] || exit $$status; \
	  echo "pytest ended by itself (status 3). This machine:"; df -h . /tmp; free -m; \
	  echo "All tests again, in one process:"; $(PYTEST) -p no:xdist $(1); }
endef

.PHONY: help demo test test-slow test-fused lint docs bench bench-pytest clean

help:
	@echo "make demo       train CDNet on the bundled digits, evaluate it, write runs/demo/report.html"
	@echo "make test       run the tests (make test-slow: the long ones)"
	@echo "make test-fused run the CUDA kernels in Triton's interpreter (installs Triton, some 290 MB)"
	@echo "make lint       format check, lint and types"
	@echo "make docs       build the documentation into docs/_build/html"
	@echo "make bench      run the benchmarks and write their tables into docs/benchmarks.md (half an hour;"
	@echo "                make bench-pytest: the shorter ones under pytest-benchmark)"

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# One stamp a set of extras: installing again costs nothing until the requirements change.
$(VENV)/.models: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[models,eval,data,avatars,perceptual]'
	@touch $@

$(VENV)/.test: $(VENV)/.models
	$(INSTALL) -e '.[models,eval,data,avatars,perceptual,test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.models
	$(INSTALL) -e '.[lint]'
	@touch $@

$(VENV)/.docs: $(VENV)/.models
	$(INSTALL) -e '.[docs]'
	@touch $@

# A second `make demo` finds the finished run and only measures and draws it again.
demo: $(VENV)/.models
	$(BIN)/python -m dcorr_models train --config cdnet_digits_demo --run runs/demo --resume
	$(BIN)/python -m dcorr_models evaluate runs/demo
	$(BIN)/python -m dcorr_models report runs/demo

test: $(VENV)/.test
	$(call run_tests,-m "not slow and not gpu")

test-slow: $(VENV)/.test
	$(call run_tests,-m "slow")

$(VENV)/.triton: $(VENV)/.test
	$(INSTALL) -e '.[triton]'
	@touch $@

# A process of its own: Triton decides on import whether kernels are compiled or interpreted.
test-fused: $(VENV)/.triton
	TRITON_INTERPRET=1 $(PYTEST) -n 2 tests/dcorr/test_fused.py

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# -E: pages kept from a build before would not show their warnings again.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -E -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.test
	$(BIN)/python benchmarks/distance_covariance.py
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/report.py

bench-pytest: $(VENV)/.test
	$(BIN)/python -m pytest benchmarks/test_speed.py -p no:xdist --benchmark-columns=median,iqr,rounds

clean:
	rm -rf $(VENV) build *.egg-info docs/_build

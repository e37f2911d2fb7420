# Everything there is to do with this repository. It needs python3 (3.11 or newer, with venv and pip) and make.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
INSTALLED := $(VENV)/installed
ENGINE := $(VENV)/clickhouse
PEER := $(VENV)/peer/installed
DISTRIBUTIONS := protos libs/common $(patsubst %/pyproject.toml,%,$(sort $(wildcard services/*/pyproject.toml))) tools
PACKAGING := $(addsuffix /pyproject.toml,$(DISTRIBUTIONS))
PYTEST := $(PY) -m pytest

# An activated environment must not lead Python or uv elsewhere.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV CONDA_PREFIX
# Images often forbid bytecode; without it every process we start compiles all its modules anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# A home that is missing or not ours to write to is no reason to fail.
ifeq ($(shell test -n "$$HOME" && test -w "$$HOME" && echo writable),)
export UV_CACHE_DIR := $(CURDIR)/.saldo/cache/uv
export PIP_NO_CACHE_DIR := 1
endif

##@ Use it
demo: install  ## The whole story with real servers: make demo, or with your own folder: make demo INPUT=path
	$(BIN)/saldo demo $(INPUT)
up: install  ## Start the servers and the six services in the background
	$(BIN)/saldo up
down: install  ## Stop everything that `make up` started
	$(BIN)/saldo down
status: install  ## Say what runs, and where it listens
	$(BIN)/saldo status
token: install  ## Print a token for calling the services: make token ROLE=owner SELLER=sel_...
	@$(BIN)/saldo token $(if $(ROLE),--role $(ROLE)) $(if $(SELLER),--seller $(SELLER))
check: install  ## Verify every invariant in the data of all services
	$(BIN)/saldo check

##@ Change it
install: $(INSTALLED) protos  ## Set up .venv from the lock; quick when nothing changed
protos: $(INSTALLED)  ## Generate Python from the contracts
	@$(PY) -m tools.protos generate
lint: install  ## ruff, mypy, import rules, contracts
	@$(MAKE) -j2 lint-types lint-rules
lint-types:
	$(PY) -m mypy
lint-rules:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(PY) -m tools.protos lint
	$(PY) -m tools.protos breaking
test: lint $(ENGINE)  ## Everything that has to hold before a commit
	$(PYTEST) -n 3 --dist loadfile  # on two cores: much of the time a test waits for servers
thorough: install $(ENGINE)  ## The same with the further cases of what others already show: for as long as it takes
	$(PYTEST) -n 3 --dist loadfile --thorough
test-fast: install  ## The pure rules only: no servers, a few seconds
	$(PYTEST) --pure $(wildcard services/*/tests/domain libs/common/tests/pure)
e2e: install  ## The six processes, driven from outside
	$(PYTEST) tests/e2e
simulate: install  ## Seeded histories with faults on the bus, and a year lived twice: make simulate SEEDS=100 CUSTOMERS=200
	$(PYTEST) tests/simulation --thorough $(if $(SEEDS),--seeds $(SEEDS)) $(if $(CUSTOMERS),--customers $(CUSTOMERS))
faults: install  ## Kill processes and servers at work: make faults, or with more kills under the load of usage events: make faults KILLS=50
	$(PYTEST) tests/faults --thorough $(if $(KILLS),--kills $(KILLS))
conformance: install $(ENGINE)  ## Published figures of others by the public calls: make conformance, or CASES=folder of other cases
	$(PY) -m tests.conformance $(CASES)
bench: install $(if $(findstring --peer,$(T)),$(PEER))  ## Measure one thing and its ceiling: make bench T=rpc
	@test -n "$(T)" || { echo "which one? make bench T=name, with a name from bench/"; exit 2; }
	$(PY) -m bench.$(T)
accept: install  ## Make today's contracts the ones that may no longer break (when releasing)
	$(PY) -m tools.protos accept
lock: $(INSTALLED)  ## Renew requirements/*.txt from requirements/*.in
	@for name in bootstrap runtime dev peer; do \
	    $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	        --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
	        requirements/$$name.in -o requirements/$$name.txt || exit 1; \
	done
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-deps \
	    --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
	    requirements/clickhouse.in -o requirements/clickhouse.txt
clean:  ## Stop everything; delete the data, the environment and what was generated
	-@test ! -x $(BIN)/saldo || $(BIN)/saldo down
	-@test ! -x $(PY) || $(PY) -m tools.stack clean
	rm -rf $(VENV) .saldo protos/gen protos/third_party .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
help:  ## This list
	@awk 'BEGIN { FS = ":.*## " } \
	    /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	    /^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(INSTALLED): requirements/bootstrap.txt requirements/dev.txt $(PACKAGING)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@test -x $(BIN)/uv || { echo "setting up $(VENV)"; $(PYTHON) -m venv $(VENV) \
	    && $(BIN)/pip install --quiet --no-deps --require-hashes -r requirements/bootstrap.txt; }
	@# pip, which is slower, knows mirrors that only its own configuration names.
	@$(BIN)/uv pip sync --quiet --python $(PY) --require-hashes --no-build-isolation requirements/dev.txt \
	    || $(BIN)/pip install --quiet --require-hashes --no-build-isolation -r requirements/dev.txt
	@mkdir -p protos/gen
	@$(BIN)/uv pip install --quiet --python $(PY) --no-index --no-deps --no-build-isolation $(addprefix -e ,$(DISTRIBUTIONS))
	@touch $@

$(ENGINE): requirements/clickhouse.txt $(INSTALLED)
	@$(BIN)/uv pip install --quiet --python $(PY) --no-deps --require-hashes -r requirements/clickhouse.txt \
	    || $(BIN)/pip install --quiet --no-deps --require-hashes -r requirements/clickhouse.txt
	@touch $@

$(PEER): requirements/peer.txt $(INSTALLED)
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(BIN)/uv pip sync --quiet --python $(@D)/bin/python --require-hashes requirements/peer.txt \
	    || $(@D)/bin/pip install --quiet --no-deps --require-hashes -r requirements/peer.txt
	@touch $@

.PHONY: help install protos lock lint test thorough test-fast e2e simulate faults conformance bench demo up down status check token accept clean

# Everything a developer runs. Needs make and Python 3.11 or 3.12; `make help` lists the targets.
#
#   make demo ARGS="--port 8100"     passes arguments on
#   make test PYTEST_ARGS="-k ndcg"  runs some of the tests
#   make setup PYTHON=/path/python   chooses the interpreter

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
UV_VERSION := 0.13.9
ARGS ?=
PYTEST_ARGS ?=
PROTO_OUT ?= .

# The environment is installed again only when what it is made of changes.
STAMP := $(VENV)/.installed-$(shell cat requirements.lock pyproject.toml 2>/dev/null | cksum | cut -d ' ' -f 1)
SPARK_STAMP := $(VENV)/.spark-$(shell cat requirements-spark.lock 2>/dev/null | cksum | cut -d ' ' -f 1)
# LOCK_ARGS=--upgrade moves every package to its newest release.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header --no-annotate
LOCK_ARGS ?=
FAST := not slow and not elasticsearch and not browser

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUTF8 := 1

.PHONY: help setup spark demo demo-elasticsearch test check static format lint types imports protolint \
  fmt proto generate benchmark benchmark-learning benchmark-server wheel lock clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(firstword $(MAKEFILE_LIST)) | \
	  while IFS='|' read -r name text; do printf '  make %-18s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## Make .venv and install the locked packages into it

spark: $(SPARK_STAMP) ## Add PySpark to .venv, for `python -m trainer prepare --engine spark`

demo: $(STAMP) ## Train, export, serve, retrieve and rerank the Complete Journey groceries
	@$(PY) -m deploy.demo $(ARGS)

demo-elasticsearch: $(STAMP) ## The whole loop on a real Elasticsearch: search, clicks, learning, canary
	@$(PY) -m deploy.demo_elasticsearch $(ARGS)

test: static ## All checks and all tests: slow, Elasticsearch and browser among them
	@$(PY) -m pytest -q $(PYTEST_ARGS)

check: static ## The fast loop: formats, lint, types, imports, proto lint, fast tests
	@$(PY) -m pytest -q -m "$(FAST)" $(PYTEST_ARGS)

static: format lint types imports protolint ## The checks of `make check` without the tests; -k runs all

format: $(STAMP)
	@echo "$@" && $(BIN)/ruff format --quiet --check --diff .

lint: $(STAMP)
	@echo "$@" && $(BIN)/ruff check --quiet .

types: $(STAMP)
	@echo "$@" && $(BIN)/mypy --no-error-summary

imports: $(STAMP)
	@echo "$@" && out=$$($(BIN)/lint-imports --no-logo 2>&1) || { printf '%s\n' "$$out"; exit 1; }

protolint: $(STAMP)
	@echo "$@" && $(BIN)/buf lint proto && $(BIN)/buf format --diff --exit-code proto

fmt: $(STAMP) ## Format the code and the protos in place
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix --quiet . && $(BIN)/buf format --write proto

proto: $(STAMP) ## Generate rerank_server/pb from proto/
	@$(MAKE) generate

# Without set-up, so that tests/test_generated.py can generate into a folder of its own. The virtual
# path on the left of -I makes the generated imports absolute: from rerank_server.pb import ...
generate:
	@PATH="$(abspath $(dir $(PY))):$$PATH" $(PY) -m grpc_tools.protoc \
	  -I rerank_server/pb=proto/rerank/v1 \
	  --python_out=$(PROTO_OUT) --grpc_python_out=$(PROTO_OUT) \
	  --mypy_out=quiet:$(PROTO_OUT) --mypy_grpc_out=quiet:$(PROTO_OUT) \
	  rerank_server/pb/rerank.proto rerank_server/pb/admin.proto

benchmark: $(STAMP) ## Train on all data and write tests/benchmarks/results
	@$(PY) -m trainer benchmark --readme README.md $(ARGS)

LEARNING_DATA ?= ../shared/data
benchmark-learning: $(STAMP) ## Compare rankings on the public data sets in LEARNING_DATA
	@$(PY) -m trainer benchmark --all-in $(LEARNING_DATA) --readme README.md $(ARGS)

benchmark-server: $(STAMP) ## Measure the server: SERVED="--bundle B --products P --snapshot S"
	@$(PY) -m tests.benchmarks.server $(SERVED)
	@$(PY) -m tests.benchmarks.overload $(SERVED) --out tests/benchmarks/results/overload.json
	@$(PY) -m tests.benchmarks.server.section
	@$(PY) -m tests.deploy.sizing

wheel: $(STAMP) ## Build the wheel into dist/
	@$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(PY) --out-dir dist && ls dist/*.whl

lock: $(BIN)/uv ## Resolve the dependencies again and write the lock files
	@echo "resolving requirements.lock (everything)"
	@$(COMPILE) --extra dev --output-file requirements.lock pyproject.toml $(LOCK_ARGS)
	@echo "resolving requirements-server.lock, -trainer.lock and -spark.lock (parts of it)"
	@$(COMPILE) --constraints requirements.lock --output-file requirements-server.lock pyproject.toml
	@$(COMPILE) --constraints requirements.lock --extra trainer --extra search \
	  --output-file requirements-trainer.lock pyproject.toml
	@$(COMPILE) --constraints requirements.lock --extra spark --output-file requirements-spark.lock \
	  pyproject.toml
	@echo "resolving the images' requirements-serving.lock, -serving-gpu.lock and -demo.lock"
	@$(COMPILE) --constraints requirements.lock --extra gateway --extra http --extra otlp \
	  --output-file requirements-serving.lock pyproject.toml
	@echo "onnxruntime; sys_platform == 'never'" | $(COMPILE) --constraints requirements.lock \
	  --override - --extra gpu --extra gateway --extra http --extra otlp \
	  --output-file requirements-serving-gpu.lock pyproject.toml
	@$(COMPILE) --constraints requirements.lock --extra demo --extra gateway --extra otlp \
	  --output-file requirements-demo.lock pyproject.toml

clean: ## Remove what was built or cached; keeps .venv and the demo's data
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
	  .benchmarks .coverage htmlcov
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

# A python3.x on the path may be a shim that only prints an error, so each candidate is tried.
$(BIN)/uv:
	@set -e; \
	supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'; \
	if [ -x $(PY) ] && ! $(PY) -c "$$supported" 2>/dev/null; then \
	  echo "make: .venv: got a broken or unsupported Python, want 3.11 or 3.12; making it again" >&2; \
	  rm -rf $(VENV); \
	fi; \
	if ! $(PY) -m pip --version >/dev/null 2>&1; then \
	  python=; seen=; \
	  for candidate in $(PYTHON) $(if $(PYTHON),,python3.11 python3.12 python3 python); do \
	    version=$$($$candidate -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    seen="$$seen $$candidate is $$version;"; \
	    if $$candidate -c "$$supported"; then python=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "make: Python: got$${seen:- none;} want 3.11 or 3.12 (paddle2onnx, which writes the" >&2; \
	    echo "      ONNX graphs, has no release for later ones). Install one, or say where it is:" >&2; \
	    echo "      make PYTHON=/path/to/python3.12" >&2; \
	    exit 1; \
	  fi; \
	  echo "making $(VENV) with $$($$python --version) ($$python)"; \
	  $$python -m venv --clear $(VENV) || { \
	    rm -rf $(VENV); \
	    echo "make: $$python: cannot make a virtual environment, want its venv module" >&2; \
	    echo "      (on Debian and Ubuntu: apt-get install python3-venv)" >&2; \
	    exit 1; \
	  }; \
	fi; \
	$(PY) -m pip install --quiet "uv==$(UV_VERSION)"

$(STAMP): $(BIN)/uv
	@$(PY) -c 'import sys' 2>/dev/null || { rm -rf $(VENV) && $(MAKE) $(BIN)/uv; }
	@echo "installing the locked packages into $(VENV) (2 GB, once)"
	@quiet=; [ -t 2 ] || quiet=--quiet; \
	  $(BIN)/uv pip install $$quiet --python $(PY) --require-hashes --requirements requirements.lock
	@$(BIN)/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	@$(PY) -c 'import ctypes, sys; sys.platform == "linux" and ctypes.CDLL("libgomp.so.1")' 2>/dev/null || { \
	  echo "make: libgomp.so.1: not found, want GCC's OpenMP library, which Paddle and LightGBM load" >&2; \
	  echo "      (on Debian and Ubuntu: apt-get install libgomp1)" >&2; exit 1; }
	@rm -f $(VENV)/.installed-* && touch $@

$(SPARK_STAMP): $(STAMP)
	@echo "installing PySpark into $(VENV) (0.5 GB, once)"
	@quiet=; [ -t 2 ] || quiet=--quiet; \
	  $(BIN)/uv pip install $$quiet --python $(PY) --require-hashes --requirements requirements-spark.lock
	@rm -f $(VENV)/.spark-* && touch $@

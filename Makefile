# Tunesmith: every command of the README. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
UV_VERSION := 0.13.8
CLUSTER ?= embedded
EXAMPLE := examples/home-assistant
export OMP_NUM_THREADS ?= 2
export OMP_WAIT_POLICY := passive
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1
export ORT_DISABLE_TELEMETRY := 1

.PHONY: help venv lint format generate test test-all test-extended test-unit test-apiserver test-e2e try demo demo-down cluster cluster-down images bench clean

help: ## Print this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

venv: $(VENV)/.complete ## Make the virtual environment with every part and tool, pinned

$(VENV)/.complete: pyproject.toml constraints.txt
	@test -x $(VENV)/bin/uv || { python3 -m venv $(VENV) && $(VENV)/bin/pip install -q --disable-pip-version-check uv==$(UV_VERSION); }
	@echo "Installing the Python packages (about 6 GB with torch; a minute on a fast line) ..."
	@$(VENV)/bin/uv pip install -q --compile-bytecode -p $(VENV) -c constraints.txt -e '.[dev]'
	@touch $@

lint: venv ## Style, types, import rules, generated files
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: venv ## Format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

generate: venv ## Write crds/ and the chart's copy anew from the pydantic models
	$(PY) -m tunesmith_api.crd .
	$(PY) -m tunesmith_api.reference .
	$(PY) charts/generate_readme.py

test: lint test-unit test-apiserver test-e2e ## Everything: lint, unit, API server, end to end

test-all: test test-extended ## Everything and the long tail

test-extended: venv ## The long tail: every technique, every way to distribute, more of both on a real node
	$(VENV)/bin/pytest -m "extended and not gpu"
	$(VENV)/bin/pytest e2e/tests --durations 12 -m "e2e and extended"

test-unit: venv ## Tests that need no cluster
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n auto --maxprocesses 4 --dist loadscope --durations 15 -m "not apiserver and not e2e and not gpu and not extended"

test-apiserver: venv ## Tests against a real etcd and API server with kwok nodes
	$(VENV)/bin/pytest -m "apiserver and not e2e and not extended"

test-e2e: venv ## Tests on a real Kubernetes node: images, chart, jobs, endpoints, failures
	$(VENV)/bin/pytest e2e/tests --durations 12 -m "e2e and not extended"

try: venv ## Fine-tune, export and serve the example on this machine; no cluster, no root
	$(VENV)/bin/tunesmith run $(EXAMPLE)/job.yaml --serve --once

demo: venv ## The whole product on a real Kubernetes (CLUSTER=current IMAGES="operator=… trainer=… server=…": yours)
	$(PY) e2e/demo.py --cluster $(CLUSTER) $(IMAGES)

cluster: ## Start the embedded Kubernetes (root, Linux, Go)
	python3 e2e/cluster up

cluster-down: ## Stop the embedded Kubernetes and all that it started
	python3 e2e/cluster down

images: ## Build the operator, trainer and server images and load them into the embedded cluster
	python3 e2e/cluster images

bench: venv ## Print the measures of the README
	$(PY) bench/operator_scale.py
	$(PY) bench/trainer.py
	$(PY) bench/trainer.py --memory
	$(PY) bench/throughput.py
	$(PY) bench/tasks.py
	$(PY) bench/start.py
	$(PY) bench/server.py

clean: ## Remove what tests and runs left in the checkout
	rm -rf runs .mypy_cache .ruff_cache .pytest_cache .hypothesis

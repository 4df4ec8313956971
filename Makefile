# Darkroom: run · test · check · bench · build
# `.venv` serves and never holds torch; `.venv-dev` tests, checks and compiles checkpoints.

PYTHON ?= python3
PORT ?= 8080
PART ?= all
BUNDLE ?= model_build/crayon/bundle
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export PORT

.PHONY: help run test check format bench build clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: .venv/installed ## Serve crayon on http://127.0.0.1:$(PORT); Ctrl-C stops everything
	@exec .venv/bin/python -m local

test: .venv-dev/installed ## Run all tests
	.venv-dev/bin/python -m pytest $(ARGS)

check: .venv-dev/installed ## Lint, format, types, who may import whom, the Dockerfile
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/mypy
	.venv-dev/bin/lint-imports
	.venv-dev/bin/hadolint --failure-threshold style infra/container/Dockerfile

format: .venv-dev/installed ## Format the code
	.venv-dev/bin/ruff check --fix .
	.venv-dev/bin/ruff format .

bench: .venv-dev/installed ## Measure (PART=crayon, or all); results go to benchmarks/results
	.venv-dev/bin/python -m benchmarks $(PART)

build: .venv-dev/installed ## Compile the bundled checkpoint into model_build/crayon/bundle
	.venv-dev/bin/python -m model_build build model_build/crayon/checkpoint --name crayon --guidance 4 \
	  --target openvino-bf16 --target openvino-fp32 --store $(BUNDLE)

clean: ## Remove environments and build output; images and jobs under .darkroom stay
	rm -rf .venv .venv-dev .darkroom/build

.venv/installed: pyproject.toml constraints.txt
	@echo "Installing what serving needs into .venv (about a minute, once) ..."
	@$(PYTHON) -m venv .venv
	@.venv/bin/python $(PIP_INSTALL) --editable '.[serve]'
	@touch $@

# torch goes first and alone: its CPU build must be there before anything that depends on it is resolved.
.venv-dev/installed: pyproject.toml constraints.txt
	@echo "Installing what tests and the build stage need into .venv-dev (a few minutes, once) ..."
	@$(PYTHON) -m venv .venv-dev
	@.venv-dev/bin/python $(PIP_INSTALL) torch==2.13.0
	@.venv-dev/bin/python $(PIP_INSTALL) --editable '.[dev]'
	@touch $@

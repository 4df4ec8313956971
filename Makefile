# Darkroom: run · test · check · bench · build · deploy
# `.venv` serves and never holds torch; `.venv-dev` tests, checks and compiles checkpoints; `.venv-lambda` is of Lambda's Python.
# `.venv-sam` and `.venv-checkov` hold tools for the AWS template, whose requirements exclude ours and each other's.

PYTHON ?= python3
PORT ?= 8080
PART ?= all
WORKERS ?= 2
BUNDLE ?= crayon/bundle
# Of `make run MODEL=...`: what the model is called, and how it is built. Stages that are done are not done again.
NAME ?= $(shell basename "$(MODEL)" | tr -c 'A-Za-z0-9._\n-' '-')
BUILD_OPTIONS ?= --target openvino-bf16 --target openvino-fp32 --verify-steps 2 --repeats 0
export PORT
# The template's Python, on PATH or in pyenv; byte code for Lambda is compiled with it.
LAMBDA_PYTHON ?= $(shell for found in python3.13 "$$(pyenv prefix "$$(pyenv latest 3.13)" 2>/dev/null)/bin/python3.13"; do \
  "$$found" -c '' 2>/dev/null && echo "$$found" && break; done)

.PHONY: help run test test-lambda test-template test-context check validate format bench soak build deploy destroy clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: .venv/installed $(if $(MODEL),.venv-dev/installed) ## Serve crayon, or MODEL=a diffusers folder, on http://127.0.0.1:$(PORT); Ctrl-C stops
ifdef MODEL
	@.venv-dev/bin/python -m model_build build "$(MODEL)" --name "$(NAME)" $(BUILD_OPTIONS) --store .darkroom/built
	@DARKROOM_BUNDLE=.darkroom/built DARKROOM_DEFAULT_MODEL="$(NAME)" exec .venv/bin/python -m local
else
	@exec .venv/bin/python -m local
endif

# A file is one process's, since its tests share what is slow to start; the slowest come first, so that none ends alone.
# torch takes one thread in each: with as many as cores they spin and wait for each other.
test: .venv-dev/installed ## Run all tests but those of test-template, by WORKERS processes (2)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive .venv-dev/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-lambda: .venv-lambda/installed ## Run the tests of what runs on Lambda with Lambda's Python
	.venv-lambda/bin/python -m pytest $(wildcard tests/unit/functions tests/unit/api tests/unit/darkroom) $(ARGS)

test-template: .venv-dev/installed .venv-sam/installed ## Leave out each property of the AWS template, and make it in moto
	.venv-dev/bin/python -m pytest -m template tests/infrastructure $(ARGS)

test-context: .venv-context/installed ## Compile EPContext engines with a provider that does so on a CPU
	PYTHONPATH=.:layers/shared .venv-context/bin/python tests/integration/model_build/context_engine.py

check: .venv-dev/installed ## Lint, format, types, who may import whom, the Dockerfile
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/mypy
	.venv-dev/bin/lint-imports
	.venv-dev/bin/hadolint --failure-threshold style infra/container/Dockerfile

validate: .venv-dev/installed .venv-sam/installed .venv-checkov/installed ## Check the AWS template and what is built of it
	@LAMBDA_PYTHON="$(LAMBDA_PYTHON)" PYTHONPATH=. .venv-dev/bin/python infra/aws/validate.py

format: .venv-dev/installed ## Format the code
	.venv-dev/bin/ruff check --fix .
	.venv-dev/bin/ruff format .

bench: .venv-dev/installed ## Measure (PART=cpu, or another part, or all); results go to benchmarks/results
	.venv-dev/bin/python -m benchmarks $(PART)

soak: PART = mutants
soak: .venv-dev/installed ## What takes long: PART=mutants changes pure modules in small ways, and lists what no test notices
	.venv-dev/bin/python -m tests.soak.$(PART) $(ARGS)

build: .venv-dev/installed ## Compile the bundled checkpoint into crayon/bundle
	.venv-dev/bin/python -m model_build build crayon/checkpoint --name crayon --guidance 4 \
	  --controlnet canny=crayon/controlnet-canny --cache crayon/cache \
	  --target openvino-bf16 --target openvino-fp32 --store $(BUNDLE)

deploy: .venv-sam/installed ## Build and deploy to AWS; asks for each parameter
	@test -n "$(LAMBDA_PYTHON)" || { echo "Python 3.13 is needed to build what Lambda runs: put python3.13 on PATH, or in pyenv."; exit 1; }
	LAMBDA_PYTHON="$(LAMBDA_PYTHON)" .venv-sam/bin/sam build --build-in-source
	.venv-sam/bin/sam deploy --guided --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND

destroy: .venv-sam/installed ## Delete the AWS stack STACK (darkroom) and what it made; buckets and tables stay, with what is in them
	@.venv-sam/bin/python infra/aws/destroy.py --stack "$(or $(STACK),darkroom)" --endpoint "$(ENDPOINT)"

clean: ## Remove environments and build output; images and jobs under .darkroom stay
	rm -rf .venv .venv-dev .venv-context .venv-lambda .venv-sam .venv-checkov .aws-sam .darkroom/build

# An environment of PYTHON. What another Python left there would stay wrong: it is made anew.
VERSION = $(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
NEEDED = $(shell sed -n 's/^requires-python = ">=\(.*\)"/\1/p' pyproject.toml)
ANEW = $(if $(filter $(VERSION),$(shell sed -n 's/^version = //p' $(@D)/pyvenv.cfg 2>/dev/null)),,anew)
define environment
@$(PYTHON) -c 'import sys; sys.version_info >= tuple(map(int, "$(NEEDED)".split("."))) or sys.exit("Darkroom needs \
Python $(NEEDED) or newer; $(PYTHON) is $(VERSION). Name another: make $(MAKECMDGOALS) PYTHON=python$(NEEDED)")'
@echo "Installing what $(1) into $(@D) ($(2), once) ..."
@$(if $(ANEW),rm -rf $(@D) && $(PYTHON) -m venv $(if $(UV),--without-pip) $(@D))
endef
# What fills it: pip, or uv where UV names it, as .ci/run does, in a tenth of the time.
INSTALL = $(if $(UV),$(UV) pip install --quiet --python $(@D),$(@D)/bin/python -m pip install --quiet --disable-pip-version-check)

.PHONY: anew model
.SECONDEXPANSION:

# What MODEL names, looked at before minutes of installing: a folder here, or an id on the hub (one slash, no such folder).
model:
	@test -f "$(MODEL)/model_index.json" || case "$(MODEL)" in \
	  /* | ./* | ../* | */*/*) false ;; ?*/?*) test ! -e "$(MODEL)" -a ! -d "$(dir $(MODEL))" ;; *) false ;; esac \
	|| { echo "MODEL=$(MODEL): there is no diffusers folder of that name (it would hold model_index.json)." >&2; exit 1; }

.venv/installed: pyproject.toml constraints.txt $$(ANEW) | $(if $(MODEL),model)
	$(call environment,serving needs,about a minute)
	@$(INSTALL) --constraint constraints.txt --editable '.[serve]'
	@touch $@

# torch goes first and alone: its CPU build must be there before anything that depends on it is resolved.
.venv-dev/installed: pyproject.toml constraints.txt $$(ANEW) | $(if $(MODEL),model)
	$(call environment,tests and the build stage need,a few minutes)
	@$(INSTALL) --constraint constraints.txt torch==2.13.0
	@$(INSTALL) --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv-lambda/installed: PYTHON = $(or $(LAMBDA_PYTHON),python3.13)
.venv-lambda/installed: pyproject.toml constraints.txt layers/shared/requirements.txt $$(ANEW)
	$(call environment,tests of what runs on Lambda need,about a minute)
	@$(INSTALL) --constraint constraints.txt --requirement layers/shared/requirements.txt --editable '.[serve,s3,postgres,test]'
	@touch $@

.venv-%/installed: infra/aws/requirements-%.txt $$(ANEW)
	$(call environment,$* needs,about a minute)
	@$(INSTALL) --requirement $<
	@touch $@

# An environment of its own: onnxruntime-openvino and onnxruntime are the same package to Python.
.venv-context/installed: pyproject.toml $$(ANEW)
	$(call environment,compiling EPContext engines on a CPU needs,a minute)
	@$(INSTALL) --constraint constraints.txt onnxruntime-openvino==1.24.1 onnx numpy pydantic
	@touch $@

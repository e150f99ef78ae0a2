# Everything that a developer runs; `make` alone lists it. Each target creates the environment that it needs.

PYTHON ?= python3
MODEL ?= laion/clap-htsat-fused
LABELS ?=
OUT ?= bundles/$(subst :,-,$(patsubst %.pt,%,$(notdir $(MODEL:/=))))
ESC10 ?=
CHECKPOINT ?=
AUDIO ?=
BUNDLE ?=
PYTEST_ARGS ?=
JSON ?= bench/results/gpu.json
TARGET ?= linux-x86_64
PY ?=
EXTRAS ?= $(if $(RUNTIME),,cpu)
PRECISION ?=
EXTRAS_PYTHON ?=
RUNTIME ?=
KIT ?= dist/clapedge-kit-$(TARGET)$(addprefix -py,$(PY)).tar.gz
MIRROR ?=

COMMA := ,
VENV := .venv
BIN := $(VENV)/bin
# what is installed in $(VENV), from the least to the most
RUN := $(VENV)/.installed-run
EXPORT := $(VENV)/.installed-export
CALIB := $(VENV)/.installed-calib
DEV := $(VENV)/.installed-dev
BENCH := $(VENV)/.installed-bench
# ONNX Runtime's package for GPUs, which cannot lie beside the other one
STANDIN := .venv-cuda
STANDIN_TESTS := tests/cuda_standin
# Ray, which has wheels for few Pythons and many packages of its own
RAY := .venv-ray
CLIPS := engine/clapedge/demo_clips

export ESC10 CHECKPOINT

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# targets share one environment and one processor: tests and linters use the cores themselves
.NOTPARALLEL:
.PHONY: help setup demo demo-model test test-cuda-standin test-ray lint type format export calibrate bench bench-frontend gpu-check docs edge-kit test-arm64 test-avx2 wheel test-matrix release-check clean

help: ## list the targets
	@echo "make TARGET [VARIABLE=VALUE ...]"
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(DEV) ## create .venv with everything that development needs
	@echo "Ready: . $(BIN)/activate"

demo: $(RUN) ## score the demo clips with the built-in model (installs no torch)
	@env -u CLAPEDGE_BUNDLE $(BIN)/clapedge score $(CLIPS)/*.flac --labels $(CLIPS)/labels.toml

demo-model: $(DEV) ## train the built-in model again, export and measure it: ESC10=DIR
	@test -n '$(ESC10)' || { echo "make demo-model trains on ESC-10; name its directory: make demo-model ESC10=DIR" >&2; exit 2; }
	@$(BIN)/python demo/make_model.py --esc10 '$(ESC10)'
	@$(BIN)/clapedge export demo/checkpoint -o engine/clapedge/demo_model --precision fp32,int8 --force
	@$(BIN)/python demo/make_pool.py '$(ESC10)'
	@$(BIN)/python demo/make_clips.py
	@$(BIN)/python demo/gauge.py --esc10 '$(ESC10)' --card demo/checkpoint/README.md

test: $(DEV) ## run the tests; PYTEST_ARGS="-k mel" narrows, ESC10=DIR and CHECKPOINT=DIR add those of recordings and of a checkpoint
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-cuda-standin: ## run ONNX Runtime's CUDA provider over stand-ins of NVIDIA's libraries: no GPU, but Linux x86-64 and cc
	@skip() { echo "test-cuda-standin: skipped: $$1"; exit 0; }; \
	test "$$(uname -sm)" = "Linux x86_64" || skip "onnxruntime-gpu with CUDA has no package for $$(uname -sm)"; \
	command -v cc >/dev/null || skip "no C compiler (cc)"; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || skip "onnxruntime-gpu needs Python 3.11 or newer"; \
	$(MAKE) --no-print-directory $(STANDIN)/.installed || skip "the packages of $(STANDIN_TESTS) cannot be installed"; \
	$(STANDIN)/bin/python $(STANDIN_TESTS)/build.py $(STANDIN)/headers $(STANDIN)/standin && rm -f $(STANDIN)/calls.jsonl && \
	LD_LIBRARY_PATH=$(STANDIN)/standin CUDA_STANDIN_LOG=$(STANDIN)/calls.jsonl \
		$(STANDIN)/bin/python -m pytest $(STANDIN_TESTS) $(PYTEST_ARGS)

test-ray: ## run the tests of batches on Ray in an environment of their own, where this Python has a Ray
	@$(MAKE) --no-print-directory $(RAY)/.installed || { echo "test-ray: skipped: the packages of clapedge[ray] cannot be installed"; exit 0; }; \
	$(RAY)/bin/python -m pytest tests/engine/test_ray.py $(PYTEST_ARGS)

lint: $(DEV) ## check style and layout
	@$(BIN)/ruff check --quiet --output-format concise . && $(BIN)/ruff format --quiet --check . && $(BIN)/lint-imports --no-logo && echo "lint: no findings"

type: $(DEV) ## check types
	@$(BIN)/mypy

format: $(DEV) ## lay out the code and mend what can be mended mechanically
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

export: $(EXPORT) ## make and verify a bundle: MODEL=checkpoint [LABELS="FILE ..."] [OUT=directory]
	@$(BIN)/clapedge export '$(MODEL)' -o '$(OUT)' $(foreach file,$(LABELS),--labels '$(file)')

calibrate: $(CALIB) ## make an INT8 variant with sounds of the device: AUDIO=directory BUNDLE=directory
	@test -n '$(AUDIO)' -a -n '$(BUNDLE)' || { echo "name the recordings and the bundle: make calibrate AUDIO=DIR BUNDLE=DIR" >&2; exit 2; }
	@$(BIN)/clapedge calibrate '$(BUNDLE)' --audio '$(AUDIO)'

bench: $(BENCH) ## run every bench/bench_*.py
	@set -e; for script in bench/bench_*.py; do echo "$$script"; $(BIN)/python "$$script"; done

bench-frontend: $(BENCH) ## time log-mels and MP3 to features beside transformers, librosa, torch and scipy
	@$(BIN)/python bench/bench_frontend.py

gpu-check: ## check and time a bundle on this machine's GPU: [BUNDLE=bundles/random] [JSON=file] [PYTHON=one with clapedge[gpu]]
	@$(PYTHON) bench/gpu_check.py --bundle '$(or $(BUNDLE),bundles/random)' --out '$(JSON)'

docs: $(DEV) ## build the site into site/, and check the documents: links, commands and Python examples
	@NO_MKDOCS_2_WARNING=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/mkdocs build --quiet --strict --site-dir site
	@$(BIN)/python -m pytest -q tests/test_docs.py tests/test_site.py

edge-kit: $(RUN) ## pack a device's kit: BUNDLE=directory TARGET=machine PY=3.11 [EXTRAS=cpu,mqtt] [PRECISION=int8] [LABELS="SET ..."] [RUNTIME=wheel] [KIT=file]
	@test -n '$(BUNDLE)' || { echo "name the bundle: make edge-kit BUNDLE=DIR TARGET=linux-aarch64 PY=3.11" >&2; exit 2; }
	@mkdir -p '$(dir $(KIT))'
	@$(BIN)/clapedge bundle pack '$(BUNDLE)' -o '$(KIT)' --force --target '$(TARGET)' $(addprefix --python ,$(PY)) \
		$(addprefix --extra ,$(subst $(COMMA), ,$(EXTRAS))) $(addprefix --precision ,$(subst $(COMMA), ,$(PRECISION))) \
		$(foreach set,$(LABELS),--labels '$(set)') $(addprefix --runtime-wheel ,$(RUNTIME))

test-arm64: $(CALIB) ## run kits in an emulated ARM64 Debian and compare; needs root and qemu-user-static: [BUNDLE=directory] [MIRROR=url]
	@$(BIN)/python bench/arm64_check.py $(addprefix --mirror ,$(MIRROR)) $(if $(filter-out file,$(origin BUNDLE)),--bundle '$(BUNDLE)')

test-avx2: $(RUN) ## hold bundles against their proofs on emulated processors without VNNI; needs qemu-user-static: [BUNDLE=directory]
	@$(BIN)/python bench/avx2_check.py $(if $(filter-out file,$(origin BUNDLE)),--bundle '$(BUNDLE)')

wheel: $(RUN) ## build the wheel into dist/
	@$(BIN)/python -m pip wheel -q --no-deps -w dist . && ls dist/*.whl

test-matrix: $(DEV) ## run the engine's tests on an installed wheel, on the oldest and the newest Python and ONNX Runtime
	@$(BIN)/nox

release-check: $(DEV) ## build the source archive and the wheel, check them, and install the wheel with each extra: [EXTRAS_PYTHON=3.12]
	@$(BIN)/python -m pytest -q tests/test_release.py && $(BIN)/nox -s release && $(BIN)/nox -s extras $(addprefix -p ,$(EXTRAS_PYTHON))

clean: ## delete the environment, caches and builds (bundles stay)
	rm -rf $(VENV) $(STANDIN) $(RAY) .nox .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# an environment with more in it serves the targets that need less
$(RUN): WITH := cpu,kit
$(EXPORT): WITH := cpu,export
$(EXPORT): SERVES := $(RUN)
$(CALIB): WITH := cpu,calib
$(CALIB): SERVES := $(RUN)
$(DEV): WITH := cpu,export,calib,formats,kit,parquet,plot,web,mqtt,mic,privacy,dev
$(DEV): SERVES := $(RUN) $(EXPORT) $(CALIB)
$(BENCH): WITH := cpu,export,calib,formats,kit,parquet,plot,web,mqtt,mic,privacy,dev,bench
$(BENCH): SERVES := $(RUN) $(EXPORT) $(CALIB) $(DEV)
$(RUN) $(EXPORT) $(CALIB) $(DEV) $(BENCH): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing clapedge[$(WITH)] into $(VENV) ..."
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[$(WITH)]'
	@touch $(SERVES) $@

$(STANDIN)/.installed: pyproject.toml constraints.txt $(wildcard $(STANDIN_TESTS)/*.txt) | $(STANDIN)/bin/python
	@echo "Installing clapedge and onnxruntime-gpu into $(STANDIN) ..."
	@$(STANDIN)/bin/python -m pip install -q -c constraints.txt -r $(STANDIN_TESTS)/requirements.txt -e .
	@$(STANDIN)/bin/python -m pip install -q --no-deps --upgrade --target $(STANDIN)/headers -r $(STANDIN_TESTS)/headers.txt
	@touch $@

$(RAY)/.installed: pyproject.toml constraints.txt | $(RAY)/bin/python
	@echo "Installing clapedge[ray] into $(RAY) ..."
	@$(RAY)/bin/python -m pip install -q -c constraints.txt -e '.[cpu,parquet,ray]' pytest hypothesis
	@touch $@

# a Python without ensurepip (Debian's, bare) lends its own pip
$(BIN)/python $(STANDIN)/bin/python $(RAY)/bin/python: %/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("clapedge needs Python 3.10 or newer; name one: make PYTHON=python3.12") if sys.version_info < (3, 10) else None'
	@echo "Creating $* ..."
	@$(PYTHON) -m venv $* 2>/dev/null || { \
		$(PYTHON) -m venv --clear --without-pip $* && $(PYTHON) -m pip --python $@ install -q pip; }

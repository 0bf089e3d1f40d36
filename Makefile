# Every target makes its own environment (.venv) when there is none.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
SOURCES := $(wildcard csrc/*.cpp csrc/*/*.cpp csrc/*/*.cu csrc/*/*.h)

.PHONY: demo test integration bench gallery lint format sanitize emulate check clean build

demo: build
	$(PY) tools/demo.py

# One test process for each core, eight at most; WORKERS=0 runs all in one.
WORKERS ?= auto
test: build
	$(PY) -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadgroup $(ARGS)

# Federations, trainings and generation over real processes, a server of MONAI Label, an application of MONAI Deploy. NVIDIA FLARE
# and Ray stay beside the environment, so that nothing else comes to depend on them; MONAI Label and MONAI Deploy want other
# versions of the same packages and have environments of their own.
FLARE := .flare
RAY := .ray
LABEL := .label
DEPLOY := .deploy
integration: build $(addsuffix /.installed,$(FLARE) $(RAY) $(LABEL) $(DEPLOY))
	PYTHONPATH=$(CURDIR)/$(FLARE):$(CURDIR)/$(RAY) $(PY) -m pytest tests/integration -m rehearsal $(ARGS)

bench: build $(VENV)/.peers
	$(PY) -m benchmarks $(ARGS)

check: build
	$(PY) tools/check_bundles.py --unit-run

gallery: build
	$(PY) tools/make_gallery.py

lint: $(VENV)/.environment
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run --Werror $(SOURCES)

format: $(VENV)/.environment
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(SOURCES)

# The operator tests with address and undefined-behaviour sanitizers, from a build of their own.
SANITIZE := build/sanitize
sanitize: $(VENV)/.environment
	MEDSYNTH_DEBUG=1 MEDSYNTH_CUDA=0 $(PY) setup.py -q build --build-lib $(SANITIZE) --build-temp build/temp-sanitize
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so) $$(g++ -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0:protect_shadow_gap=0 UBSAN_OPTIONS=print_stacktrace=1 \
	PYTHONSAFEPATH=1 PYTHONPATH=$(SANITIZE) $(PY) -m pytest tests/ops -p no:cacheprovider -q $(ARGS)

# The operator tests on the CUDA kernels, which csrc/emulation runs on the CPU: for machines without a GPU.
EMULATION := build/emulation
emulate: $(VENV)/.environment
	MEDSYNTH_EMULATION=1 $(PY) setup.py -q build --build-lib $(EMULATION) --build-temp build/temp-emulation
	PYTHONSAFEPATH=1 PYTHONPATH=$(EMULATION):$(CURDIR) $(PY) -m pytest tests/ops -p no:cacheprovider -q $(ARGS)

build: $(VENV)/.environment
	$(PY) setup.py -q build_ext --inplace

$(VENV)/.environment: constraints.txt pyproject.toml requirements-dev.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -r requirements-dev.txt
	$(PIP) install -q -c constraints.txt --no-build-isolation -e .
	touch $@

$(FLARE)/.installed: $(VENV)/.environment
	$(PIP) install -q -c constraints.txt --target $(FLARE) --upgrade nvflare
	touch $@

$(RAY)/.installed: $(VENV)/.environment
	$(PIP) install -q -c constraints.txt --target $(RAY) --upgrade ray
	touch $@

LABEL_FILES := $(addprefix examples/monai_label/,install.sh constraints.txt torchvision_on_cpu.py)
$(LABEL)/.installed: $(LABEL_FILES) pyproject.toml
	MEDSYNTH_CUDA=0 PYTHON=$(PYTHON) sh examples/monai_label/install.sh $(LABEL)
	touch $@

# MONAI Deploy in an environment of its own: it takes the package from here, where it is built, and needs no toolchain.
DEPLOY_FILES := $(addprefix examples/deploy/,constraints.txt requirements.txt)
$(DEPLOY)/.installed: $(DEPLOY_FILES)
	test -x $(DEPLOY)/bin/python || $(PYTHON) -m venv $(DEPLOY)
	$(DEPLOY)/bin/python -m pip --disable-pip-version-check install -q -c examples/deploy/constraints.txt torch
	$(DEPLOY)/bin/python -m pip --disable-pip-version-check install -q -c examples/deploy/constraints.txt -r examples/deploy/requirements.txt
	touch $@

$(VENV)/.peers: $(VENV)/.environment benchmarks/requirements-peers.txt
	$(PIP) install -q -c constraints.txt --no-deps -r benchmarks/requirements-peers.txt
	touch $@

clean:
	rm -rf $(VENV) $(FLARE) $(RAY) $(LABEL) $(DEPLOY) build *.egg-info medsynth_ext/*.so

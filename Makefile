# Everything runs in virtual environments of its own, made when first needed:
#   .venv            the package (editable), its tests, lint and types
#   .venv-parity     the same with torch and transformers; it trains the demo model too
#   .venv-reference  optimum's exporter, which needs an older transformers
#   .venv-openapi    Schemathesis, which tries the server
#   .venv-engines    TensorRT-RTX, whose builder needs no GPU
#   .venv-placement  ONNX Runtime's GPU build, in each version that is checked
#   .venv-page       the package with Selenium, which drives Chromium
#   .venv-runtimes, .venv-runtimes-oldest  runtimes that load padded graphs, without the package
#   .venv-clients    clients of rerankers; those that cannot be installed beside them in .venv-clients-apart
PYTHON ?= python3
# On Linux, plain `torch` from PyPI brings gigabytes of CUDA; TORCH="torch --index-url .../whl/cpu" takes the CPU build.
TORCH ?= torch==2.13.0
MODEL ?= Alibaba-NLP/gte-reranker-modernbert-base
OUT ?= artifacts/gte-reranker-modernbert-base

.PHONY: setup demo train-demo train-check export test test-python test-slow soak coverage lint typecheck check parity \
	reference packaging peers-check engines-check placement-check openapi-check clients-check integrations runtimes-check page-check page-screenshot \
	server-soak avx2-check arm-check gpu-check gpu-bundle golden clean

setup: .venv/ready

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet --editable '.[dev]'
	touch $@

.venv-parity/ready: pyproject.toml
	$(PYTHON) -m venv .venv-parity
	.venv-parity/bin/python -m pip install --quiet --upgrade pip
	.venv-parity/bin/python -m pip install --quiet $(TORCH)
	.venv-parity/bin/python -m pip install --quiet --editable '.[dev,verify]'
	touch $@

.venv-reference/ready: pyproject.toml
	$(PYTHON) -m venv .venv-reference
	.venv-reference/bin/python -m pip install --quiet --upgrade pip
	.venv-reference/bin/python -m pip install --quiet $(TORCH)
	.venv-reference/bin/python -m pip install --quiet --editable '.[cpu,export,reference]' pytest hypothesis
	touch $@

.venv-parity/trains: .venv-parity/ready demo/training/requirements.txt
	.venv-parity/bin/python -m pip install --quiet --requirement demo/training/requirements.txt
	touch $@

.venv-engines/ready: pyproject.toml
	$(PYTHON) -m venv .venv-engines
	.venv-engines/bin/python -m pip install --quiet --upgrade pip
	.venv-engines/bin/python -m pip install --quiet --editable '.[dev,tensorrt-rtx]'
	touch $@

.venv-openapi/ready:
	$(PYTHON) -m venv .venv-openapi
	.venv-openapi/bin/python -m pip install --quiet --upgrade pip
	.venv-openapi/bin/python -m pip install --quiet 'schemathesis>=4.32'
	touch $@

# The versions lie beside each other, and each is 250 MB to download; the processor's build exports the graphs.
.venv-placement/ready: pyproject.toml tests/placement/versions.txt
	$(PYTHON) -m venv .venv-placement
	.venv-placement/bin/python -m pip install --quiet --upgrade pip
	.venv-placement/bin/python -m pip install --quiet --editable '.[dev]'
	for version in $$(cat tests/placement/versions.txt); do \
		test -d .venv-placement/onnxruntime-$$version || .venv-placement/bin/python -m pip install --quiet --no-deps \
			--target .venv-placement/onnxruntime-$$version onnxruntime-gpu==$$version || exit 1; \
	done
	touch $@

.venv-page/ready: pyproject.toml
	$(PYTHON) -m venv .venv-page
	.venv-page/bin/python -m pip install --quiet --upgrade pip
	.venv-page/bin/python -m pip install --quiet --editable '.[dev]' selenium
	touch $@

.venv-runtimes/ready: tests/runtimes/newest/requirements.txt
	$(PYTHON) -m venv .venv-runtimes
	.venv-runtimes/bin/python -m pip install --quiet --upgrade pip
	.venv-runtimes/bin/python -m pip install --quiet --requirement tests/runtimes/newest/requirements.txt
	touch $@

# Python 3.12 is the last one that this ONNX Runtime has wheels for.
.venv-runtimes-oldest/ready: tests/runtimes/oldest/requirements.txt
	$(PYTHON) -m venv .venv-runtimes-oldest
	.venv-runtimes-oldest/bin/python -m pip install --quiet --upgrade pip
	.venv-runtimes-oldest/bin/python -m pip install --quiet --requirement tests/runtimes/oldest/requirements.txt
	touch $@

.venv-clients/ready: tests/clients/requirements.txt
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install --quiet --upgrade pip
	.venv-clients/bin/python -m pip install --quiet --requirement tests/clients/requirements.txt
	touch $@

.venv-clients-apart/ready: tests/clients/apart/requirements.txt
	$(PYTHON) -m venv .venv-clients-apart
	.venv-clients-apart/bin/python -m pip install --quiet --upgrade pip
	.venv-clients-apart/bin/python -m pip install --quiet --requirement tests/clients/apart/requirements.txt
	touch $@

.venv-clients/node/ready: tests/clients/node/package.json tests/clients/node/rerank.js .venv-clients/ready
	mkdir -p .venv-clients/node
	cp tests/clients/node/* .venv-clients/node/
	npm install --prefix .venv-clients/node --silent --no-audit --no-fund --no-package-lock
	touch $@

# The trained demo model: exported, its int8 judged on held-out queries, and asked to rank.
demo: setup
	@.venv/bin/modernrank export demo/model --out artifacts/demo --precision fp32 --precision int8 --force
	@printf '\n\033[1m%s\033[0m\n\n' 'play music in a terminal'
	@.venv/bin/modernrank rank artifacts/demo --query 'play music in a terminal' --documents demo/documents.txt
	@printf '%s\n' '' 'This small model (2.8 M parameters) knows the descriptions of software. What it is, and which precision' \
		'and provider run here:                 .venv/bin/modernrank info artifacts/demo' \
		'The real one, 600 MB from the hub:     make export'

# The demo model anew, from the package lists of Debian 12: 2.4 hours on 2 cores. Requires apt-get.
train-demo: .venv-parity/trains
	.venv-parity/bin/python -m demo.training.train .train
	.venv-parity/bin/python -m demo.training.write_evaluation_set .train .train/test
	.venv-parity/bin/python -m demo.training.write_evaluation_set .train demo/model/evaluation --queries 200
	cp .train/checkpoint/* demo/model/

# The recipe with two steps in stages 2, 3 and 5, and the examples in its docstrings: that it runs, not what it makes.
train-check: .venv-parity/trains
	.venv-parity/bin/python -m pytest --quiet --doctest-modules demo/training
	.venv-parity/bin/python -m demo.training.train .train-check --match-steps 2 --rank-steps 2 --sum-steps 2 \
		--validation-queries 40
	.venv-parity/bin/python -m demo.training.write_evaluation_set .train-check .train-check/evaluation --queries 20

# The artifact for processors; where TensorRT and a GPU are available, also one in float16 with an engine.
export: setup
	.venv/bin/modernrank export $(MODEL) --out $(OUT)
	if .venv/bin/modernrank info $(OUT) | grep --quiet '^ *tensorrt  can run'; then \
		.venv/bin/modernrank export $(MODEL) --out $(OUT)-fp16 --precision fp16 && \
		.venv/bin/modernrank build-engine $(OUT)-fp16; \
	else echo 'skipped the TensorRT engine: modernrank info $(OUT) says why'; fi

# In as many processes as there are cores.
test: setup
	.venv/bin/python -m pytest --numprocesses auto --dist loadscope

# The default suite with another Python: make test-python PYTHON=python3.13
test-python:
	$(PYTHON) -m venv .venv-$(notdir $(PYTHON))
	.venv-$(notdir $(PYTHON))/bin/python -m pip install --quiet --editable '.[dev]'
	.venv-$(notdir $(PYTHON))/bin/python -m pytest

# Tests that take seconds to minutes each: the demo model's whole evaluation, timings of processes.
test-slow: setup
	.venv/bin/python -m pytest -m slow

# Ten minutes of random calls from loops and threads, with cancellations, time-outs and errors.
soak: setup
	SOAK_SECONDS=600 .venv/bin/python -m pytest -m slow tests/engine/test_soak.py --capture=no

# Twenty minutes of mixed load on a server, with malformed bodies, and slow and vanishing clients between.
server-soak: setup
	SOAK_SECONDS=1200 .venv/bin/python -m pytest -m slow tests/server/test_soak.py --capture=no --timeout=1800

# The server's OpenAPI document, tried by Schemathesis.
openapi-check: setup .venv-openapi/ready
	SCHEMATHESIS=.venv-openapi/bin/schemathesis .venv/bin/python -m pytest -m openapi tests/server

# The default suite's coverage, with what its child processes run.
coverage: setup
	.venv/bin/python -m pytest --cov --cov-report=term-missing:skip-covered

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/codespell

# mypy cannot follow the editable install's mapping of folders to packages: it reads a tree of links instead.
typecheck: setup
	.venv/bin/python tests/support/link_tree.py build/types
	MYPYPATH=build/types .venv/bin/mypy -p modernrank -p haystack_integrations -p demo.training

# Live, against transformers: tiny models of every kind, and the shapes of ModernBERT-base and -large.
parity: .venv-parity/ready
	.venv-parity/bin/python -m pytest -m parity tests/export tests/benchmarks

# The same checkpoint through optimum's exporter.
reference: .venv-reference/ready
	.venv-reference/bin/python -m pytest -m reference tests/export

# What is in the wheel and the sdist, and that they work when installed.
packaging: setup
	.venv/bin/python -m pytest -m packaging tests/repository

# Two peers beside us on a tiny model: that the harness works, not how fast anything is.
peers-check: setup
	.venv/bin/modernrank export tests/data/tiny --out artifacts/tiny --force
	.venv/bin/modernrank bench peers tests/data/tiny artifacts/tiny --torch '$(TORCH)' --length 64 --rounds 1 \
		--peer 'transformers fp32' --peer 'sentence-transformers fp32' --out artifacts/peers.json
	! grep --quiet '"error": "' artifacts/peers.json

# Engines parsed and built, tiny and full size; nothing is run on a GPU.
engines-check: .venv-engines/ready
	.venv-engines/bin/python -m pytest -m tensorrt tests/export

# ONNX Runtime's CUDA provider on stub CUDA libraries: where nodes run, what is launched, copied and allocated, and that
# CUDA graphs are accepted. Nothing is computed. Requires a C compiler and binutils.
placement-check: .venv-placement/ready
	.venv-placement/bin/python -m pytest -m placement tests/placement

# The server's page in headless Chromium. Requires apt-get's chromium and chromium-driver.
page-check: .venv-page/ready
	.venv-page/bin/python -m pytest -m page tests/server/test_page.py

# The picture of the page in docs/, with the example ranked, in the fonts of this machine. Requires the same, optipng, and
# artifacts/demo (make demo).
page-screenshot: .venv-page/ready
	.venv-page/bin/python tests/support/page_screenshot.py artifacts/demo docs/serve-page.png
	optipng -quiet -o5 docs/serve-page.png
# Real clients, in Python and where there is npm in JavaScript, against servers of their own. They have no modernrank:
# --confcutdir keeps out tests/conftest.py, which imports it, and their servers run in .venv.
CLIENTS_OPTIONS = --quiet -m clients --confcutdir tests/clients --disable-warnings
clients-check: setup .venv-clients/ready .venv-clients-apart/ready
	if command -v npm > /dev/null; then $(MAKE) --no-print-directory .venv-clients/node/ready; fi
	export MODERNRANK_SERVER=$(CURDIR)/.venv/bin/python; \
	if test -d .venv-clients/node; then export MODERNRANK_NODE_CLIENTS=$(CURDIR)/.venv-clients/node; fi; \
	.venv-clients/bin/python -m pytest $(CLIENTS_OPTIONS) tests/clients --ignore tests/clients/apart && \
	.venv-clients-apart/bin/python -m pytest $(CLIENTS_OPTIONS) tests/clients/apart tests/clients/test_cohere.py

# Each folder of tests/integrations is a framework, or several that can be installed together, with the environment of
# its requirements.txt: make integrations ONLY='langchain haystack'
ONLY ?= $(notdir $(patsubst %/requirements.txt,%,$(wildcard tests/integrations/*/requirements.txt)))
integrations: $(ONLY:%=.venv-integrations/%/ready)
	for name in $(ONLY); do \
		.venv-integrations/$$name/bin/python -m pytest --quiet -m integrations tests/integrations/$$name || exit 1; \
	done

.venv-integrations/%/ready: tests/integrations/%/requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv-integrations/$*
	.venv-integrations/$*/bin/python -m pip install --quiet --upgrade pip
	if grep --quiet '^torch' $<; then .venv-integrations/$*/bin/python -m pip install --quiet $(TORCH); fi
	.venv-integrations/$*/bin/python -m pip install --quiet --requirement $<
	.venv-integrations/$*/bin/python -m pip install --quiet --editable '.[cpu,export]' pytest pytest-timeout hypothesis
	touch $@

# The demo model's padded graph in ONNX Runtime 1.17 and today's, fastembed and OpenVINO. Their environments have no
# modernrank: --confcutdir keeps out tests/conftest.py, which imports it.
RUNTIMES_OPTIONS = --quiet -m runtimes --confcutdir tests/runtimes --disable-warnings
runtimes-check: setup .venv-runtimes/ready .venv-runtimes-oldest/ready
	.venv/bin/modernrank export demo/model --out artifacts/padded --graph padded --force
	export MODERNRANK_PADDED=$(CURDIR)/artifacts/padded; \
	.venv-runtimes/bin/python -m pytest $(RUNTIMES_OPTIONS) tests/runtimes && \
	.venv-runtimes-oldest/bin/python -m pytest $(RUNTIMES_OPTIONS) tests/runtimes --ignore tests/runtimes/newest

# int8 on a processor without a dot-product instruction, whose fastest product saturates: qemu emulates AVX2. Requires
# qemu-user-static. Scores must be equal to the last bit.
AVX2 = qemu-x86_64-static -cpu Haswell
avx2-check: setup
	$(AVX2) .venv/bin/python -m pytest -m "avx2 or not avx2" tests/emulated/test_int8_kernels.py 2> /dev/null
	.venv/bin/modernrank export tests/data/tiny --out artifacts/tiny-int8 --precision int8 --force
	.venv/bin/python tests/emulated/print_scores.py artifacts/tiny-int8 > artifacts/scores.txt
	$(AVX2) .venv/bin/python tests/emulated/print_scores.py artifacts/tiny-int8 2> /dev/null | \
		diff artifacts/scores.txt -

# Graphs, scores, int8 and encoding on aarch64, under qemu, with Debian's Python and the registry's wheels; about five
# minutes. What starts further processes cannot run there. Requires apt-get and qemu-user-static.
ARM = .emulated/aarch64
arm-check: setup
	tests/emulated/arm_environment.sh $(ARM)
	.venv/bin/python tests/support/link_tree.py build/types
	PYTHONPATH=$(ARM)/site:build/types PYTHONDONTWRITEBYTECODE=1 qemu-aarch64-static -L $(ARM)/root \
		$(ARM)/root/usr/bin/python3.11 -m pytest -p no:cacheprovider tests/engine/test_golden.py tests/emulated \
		tests/export/test_int8_weights.py tests/export/test_graph.py tests/engine/text/test_encoder.py \
		--deselect tests/export/test_graph.py::test_a_long_pair_holds_no_tokens_by_tokens_matrix

# Where a GPU is: accuracy and speed, step by step, into one file; it goes on where it was stopped. PYTHON must have
# modernrank[verify], a CUDA build of torch and what PROVIDER needs; LIKE is a folder with the target's config.json and
# tokenizer. GPU_CHECK takes further options: GPU_CHECK=--plan prints the steps.
PROVIDER ?= tensorrt
LIKE ?= checkpoint
GPU_CHECK ?=
gpu-check:
	$(PYTHON) -m modernrank.benchmarks.gpu.check .gpu-check/$(PROVIDER) --like $(LIKE) --provider $(PROVIDER) \
		--out benchmarks/results/gpu-$(PROVIDER).json $(GPU_CHECK)

# For a GPU machine without a package registry: ONNX Runtime for its GPU, and modernrank, in parts of at most 50 MB.
GPU_CC ?= 9.0
GPU_PYTHON ?= 3.12
BUNDLE ?= .gpu
gpu-bundle: setup
	.venv/bin/python -m modernrank.benchmarks.gpu_bundle $(BUNDLE) --compute-capability $(GPU_CC) --python $(GPU_PYTHON)

check: lint typecheck test

golden: .venv-parity/ready
	.venv-parity/bin/python tests/make_test_data.py

clean:
	rm -rf .venv .venv-* .train .train-check .peers .gpu .gpu-check .emulated build dist artifacts *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One word does it. Each word fills .venv first when it has to, with the versions in constraints.txt.
# EXTRA=cpu or EXTRA=gpu chooses the FAISS; a .venv keeps its choice.

PYTHON ?= python3
EXTRA ?= $(if $(wildcard .venv/ready-run-gpu),gpu,cpu)
OTHER := $(if $(filter gpu,$(EXTRA)),cpu,gpu)
PY := .venv/bin/python
RUN := .venv/ready-run-$(EXTRA)
DEV := .venv/ready-dev-$(EXTRA)
PYTEST_FLAGS ?= -n 2

.DEFAULT_GOAL := help
.PHONY: help demo chat serve test lint proto prove benchmark bench-serving bench-retrieval bench-store bench-chat bench-content bench-search bench-materialize bench-export bench-gpu bench-coupons clean

help: ## List these words
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUN) ## Learn from a real shop, serve it, ask it as its product page
	$(PY) -m offline demo

chat: $(RUN) ## Talk to the demo shop, in English or Chinese; after make demo
	$(PY) -m offline chat

serve: $(RUN) ## Serve the current champion until interrupted
	$(PY) -m online serve

test: lint ## Run every check and test
	$(PY) -m pytest $(PYTEST_FLAGS)

lint: $(DEV) ## Check style, types, imports and the contract
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) proto/generate.py lint

proto: $(DEV) ## Generate the contract's Python code
	$(PY) proto/generate.py

prove: $(DEV) ## Run the long proofs in full size
	$(PY) -m pytest -m prove --timeout 7200

benchmark: $(RUN) ## Train and judge on a public data set: make benchmark NAME=gowalla DATA=PATH
	$(PY) -m offline benchmark $(NAME) --data $(DATA)

bench-serving: $(RUN) ## Measure the server over a shop of a million products
	$(PY) -m infra.bench.bench_serving $(BENCH_FLAGS)

bench-retrieval: $(RUN) ## Measure recall and time of filtered search against flat search
	$(PY) -m infra.bench.bench_retrieval $(BENCH_FLAGS)

bench-store: $(RUN) ## Measure each online store: reads, durable events, event to effect
	$(PY) -m infra.bench_store $(BENCH_FLAGS)

bench-chat: $(RUN) ## Judge how the chatbot understands: make bench-chat DATA=PATH
	$(PY) -m infra.bench.bench_chat $(if $(DATA),--data $(DATA)) $(if $(wildcard var/demo/serving),--home var/demo) $(BENCH_FLAGS)

bench-content: $(RUN) ## Judge how questions find what answers them, and how fast
	$(PY) -m infra.bench.bench_content $(BENCH_FLAGS)

bench-search: $(RUN) ## Judge which products searches find, after make demo
	$(PY) -m infra.bench.bench_search $(BENCH_FLAGS)

bench-materialize: $(RUN) ## Fill the online store from synthetic tables, BENCH_FLAGS="--events 100000000"
	$(PY) -m infra.bench.bench_materialize $(BENCH_FLAGS)

bench-export: $(RUN) ## Export a campaign over a shop of a million products and users
	$(PY) -m infra.bench.bench_export $(BENCH_FLAGS)

bench-gpu: $(RUN) ## Measure search on a GPU beside the CPU, on a host that has one
	$(PY) -m infra.bench.bench_gpu $(BENCH_FLAGS)

bench-coupons: $(RUN) ## Measure uplift, redemptions and budgets: make bench-coupons DATA=PATH
	$(PY) -m infra.bench.bench_coupons --data $(DATA) $(BENCH_FLAGS)

clean: ## Remove what was built, but neither .venv nor var
	rm -rf .build build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

RUN_EXTRAS := online,offline,redis,nats,demo,$(EXTRA)

$(RUN): EXTRAS := $(RUN_EXTRAS)
$(RUN): pyproject.toml constraints.txt | $(PY)
	$(install)

$(DEV): EXTRAS := $(RUN_EXTRAS),dev
$(DEV): pyproject.toml constraints.txt | $(PY)
	$(install)
	@touch $(RUN)

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "aisle needs Python 3.11 or later: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || \
		{ echo "Python cannot make environments here. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv

# faiss-cpu and faiss-gpu own the same files, so the other one goes first.
define install
	@echo "Filling .venv (EXTRA=$(EXTRA), 2 to 3 GB): two to four minutes the first time."
	@if [ -e .venv/ready-run-$(OTHER) ]; then $(PY) -m pip uninstall --yes faiss-cpu faiss-gpu; fi
	@rm -f .venv/ready-*
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@
endef

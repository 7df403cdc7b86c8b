# make run and make test are the first two commands; README.md explains the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
CARGO ?= cargo

.PHONY: help run demo build build-agent build-manager setup-manager run-manager dist test-deps test test-browser lint bench fuzz clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

run: ## build, start a manager and an agent on this machine, print the address; Ctrl-C stops both
	$(CARGO) build --release -p manager -p agent
	scripts/run.sh target/release

demo: ## a mesh of five hosts in network namespaces, a manager and an agent in each; needs root
	scripts/test-deps.sh
	$(CARGO) build --release --workspace
	target/release/lab demo

build: ## build everything for this machine
	$(CARGO) build --release --workspace

MACHINES ?= amd64 arm64
build-agent: ## static agents for other machines: agent/bin/agent-amd64, -arm64 (MACHINES="amd64 arm64 armv7")
	@scripts/build-static.sh agent $(MACHINES)

build-manager: ## static managers: manager/bin/manager-amd64, -arm64
	@scripts/build-static.sh manager $(MACHINES)

setup-manager: ## make what a manager needs: a PSK, .env, run/; says what it did
	@scripts/setup-manager.sh

run-manager: setup-manager ## build and run a manager with the settings in .env
	$(CARGO) build --release -p manager
	exec target/release/manager

dist: build-agent build-manager ## reproducible tarballs and SHA256SUMS in target/dist
	@scripts/dist.sh

test-deps: ## install what the tests need, or say what is missing
	scripts/test-deps.sh

test: test-deps ## all tests; what cannot run here is skipped loudly
	$(CARGO) build --workspace --all-targets
	$(CARGO) test --workspace
	scripts/test-static.sh
	scripts/test-packaging.sh
	scripts/test-tls.sh
	scripts/test-api.sh
	scripts/test-browser.sh

test-browser: test-deps ## the page's part of make test, in headless Chromium (installed where it can be)
	$(CARGO) build -p manager -p agent -p lab
	scripts/test-browser.sh

lint: ## formatting, lints with and without TLS, no async runtime, scripts
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items
	$(CARGO) clippy -p agent -p manager --features agent/tls,manager/tls --target-dir target/tls -- -D warnings
	@if $(CARGO) tree --workspace -e all --all-features -i tokio >/dev/null 2>&1; then echo "tokio is in the tree"; exit 1; fi
	@if command -v shellcheck >/dev/null; then shellcheck -x -P SCRIPTDIR scripts/*.sh .ci/run packaging/install.sh packaging/busybox/kattila-agent; \
	elif [ "$$CI" = true ]; then echo "CI=true and shellcheck is missing"; exit 1; else echo "shellcheck is missing: scripts are not checked"; fi

bench: ## the benchmark: a table, and JSON under target/bench
	$(CARGO) build --release --workspace --examples --bins
	target/release/examples/topology_bench
	target/release/examples/alarm_bench
	target/release/examples/readers_bench
	target/release/lab bench $(BENCH)
	@if [ -n "$(BENCH)" ]; then :; elif [ "$$(id -u)" = 0 ]; then target/release/lab bench --agent; \
	else echo "SKIPPED: what the agent costs its host: make bench as root measures that too"; fi

FUZZ_SECONDS ?= 30
fuzz: ## run every fuzz target for FUZZ_SECONDS (30)
	scripts/fuzz.sh $(FUZZ_SECONDS)

clean: ## remove what was built, not what was configured
	$(CARGO) clean
	rm -rf agent/bin manager/bin

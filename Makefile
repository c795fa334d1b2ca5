# The one door: people and CI call these targets and nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/bash -o pipefail
.NOTPARALLEL:

# Debian packages the build and the tests need. `make setup` installs what is missing and is silent otherwise.
PACKAGES := build-essential pkgconf clang libelf-dev zlib1g-dev linux-libc-dev iproute2 ethtool nftables \
	curl wget aria2 ca-certificates python3 bpftool

CARGO_FLAGS ?= --locked

bench: build ## Goodput of one flow beside the kernel backend, alternating, with spread (needs root)
	target/release/sluice-bench goodput

.PHONY: bench clean-logs help setup build test test-unit test-loom test-veth fuzz demo lint fmt bench install clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what the build and the tests need (Debian 12, root)
	@deploy/setup.sh $(PACKAGES)

build: setup ## Build the daemon and the bench harness, release profile
	cargo build $(CARGO_FLAGS) --release --workspace

# Everything a test run prints also goes to a log, so that skips can be counted at the end.
LOGS := $(CURDIR)/target/test-logs
LOGGED = 2>&1 | tee $(LOGS)/$@.log

test: clean-logs test-unit test-loom test-veth ## Everything: unit, property, verdicts, loom, in-memory and veth end to end
	@deploy/skips.sh $(LOGS)

clean-logs:
	@rm -rf $(LOGS)

test-unit: setup ## Unit, property, verdict and in-memory tests
	@mkdir -p $(LOGS)
	SLUICE_SKIPS=$(LOGS) cargo test $(CARGO_FLAGS) --workspace $(LOGGED)

test-loom: setup ## Ring indices under every interleaving that loom finds
	@mkdir -p $(LOGS)
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test $(CARGO_FLAGS) --release -p sluice-afxdp --lib $(LOGGED)

test-veth: build ## The daemon on a veth pair, with curl over kernel TCP as the client
	@mkdir -p $(LOGS)
	SLUICE_SKIPS=$(LOGS) cargo test $(CARGO_FLAGS) --release -p sluiced --test veth -- --ignored --test-threads=1 $(LOGGED)

# One minute per target unless told otherwise. The corpora are replayed by `make test`, on stable.
SECONDS ?= 60

fuzz: setup ## Fuzz every target for SECONDS=60 each (needs nightly and cargo-fuzz)
	@fuzz/run.sh $(SECONDS)

demo: build ## The first transfer: curl downloads files from the userspace TCP, every byte checked
	@bench/demo.sh

lint: setup ## Formatting, clippy with warnings as errors, shellcheck where installed
	cargo fmt --all -- --check
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --workspace --no-deps --quiet
	@if command -v shellcheck >/dev/null; then shellcheck deploy/*.sh bench/*.sh fuzz/*.sh .ci/run; else echo "SKIP shellcheck: not installed"; fi

fmt: ## Format the tree
	cargo fmt --all

clean: ## Remove everything built
	cargo clean

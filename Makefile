# The one door: people and CI call these targets and nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/bash -o pipefail
.NOTPARALLEL:

# Debian packages the build and the tests need. `make setup` installs what is missing and is silent otherwise.
PACKAGES := build-essential pkgconf clang libelf-dev zlib1g-dev linux-libc-dev iproute2 ethtool nftables \
	curl wget aria2 ca-certificates python3 bpftool shellcheck procps
# The oldest Rust that builds it: rust-version in Cargo.toml.
RUST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

CARGO_FLAGS ?= --locked

.PHONY: help setup setup-bench build test clean-logs skips test-unit test-loom test-veth test-zerocopy test-accecn demo bench bench-quick \
	bench-figures bench-limit bench-goodput bench-engine bench-scale bench-grid bench-flood bench-fairness bench-peers bench-million \
	sim sim-same fuzz lint fmt clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what the build and the tests need (Debian 12, root)
	@deploy/setup.sh $(RUST) $(PACKAGES)

build: setup ## Build the daemon and the bench harness, release profile
	cargo build $(CARGO_FLAGS) --release --workspace

# Everything a test run prints also goes to a log, so that skips can be counted at the end.
LOGS := $(CURDIR)/target/test-logs
LOGGED = 2>&1 | tee $(LOGS)/$@.log

test: clean-logs test-unit test-loom test-veth ## Everything: unit, property, verdicts, loom, in-memory and veth end to end
	@deploy/skips.sh $(LOGS)

# Behind other targets of the same make: `make test test-zerocopy skips`.
skips: ## Count what was skipped since `make test` began, with the reasons; SKIPS=deny makes it a failure
	@deploy/skips.sh $(LOGS)

clean-logs: ## Forget the logs of the last test run
	@rm -rf $(LOGS)

test-unit: setup ## Unit, property, verdict and in-memory tests
	@mkdir -p $(LOGS)
	SLUICE_SKIPS=$(LOGS) cargo test $(CARGO_FLAGS) --workspace $(LOGGED)

# The wake-ups of the daemon's control border have their model among the unit tests (daemon/tests/control_model.rs).
test-loom: setup ## Ring indices and the disk threads' semaphore under every interleaving that loom finds
	@mkdir -p $(LOGS)
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test $(CARGO_FLAGS) --release -p sluice-afxdp -p sluice-disk --lib loom_ $(LOGGED)

test-veth: build ## On veth pairs: the daemon with curl, the link emulator, and the dialogues with Linux in our place
	@mkdir -p $(LOGS)
	SLUICE_SKIPS=$(LOGS) cargo test $(CARGO_FLAGS) --release -p sluice-bench --test wire -- --ignored --nocapture 2>&1 | tee $(LOGS)/test-wire.log
	SLUICE_SKIPS=$(LOGS) cargo test $(CARGO_FLAGS) --release -p sluice-bench --test link --test lab --test peers --test afxdp -- --ignored --test-threads=1 --nocapture 2>&1 | tee $(LOGS)/test-link.log
	SLUICE_SKIPS=$(LOGS) cargo test $(CARGO_FLAGS) --release -p sluiced --test veth -- --ignored --test-threads=1 $(LOGGED)

test-zerocopy: build ## Zero copy on virtio-net and igb, and copying without it, in emulated machines, two minutes (fetches packages)
	@mkdir -p $(LOGS)
	daemon/tests/guest/zerocopy.sh $(LOGGED)
	@deploy/skips.sh $(LOGS)/$@.log

test-accecn: build ## Accurate ECN with Linux as the peer, in an emulated machine with Linux 7 (fetches packages)
	@mkdir -p $(LOGS)
	daemon/tests/guest/accecn.sh $(LOGGED)
	@deploy/skips.sh $(LOGS)/$@.log

SCENARIOS := goodput bulk bulk-own lanes small small-afxdp small-generic latency latency-afxdp latency-generic connect connect-afxdp mixed resting \
	idle upload upload-attach upload-small polling attach
QUICK := quick quick-latency quick-connect quick-upload quick-afxdp quick-resting
# What docs/PERFORMANCE.md is held to, and how often each server has its turn.
FIGURES := figures-bulk figures-upload small-afxdp figures-latency connect-afxdp connect mixed idle
ROUNDS ?= 7
# Where the reports go.
BENCH_OUT ?= target/bench
# The files of a report that a subcommand writes besides what it prints.
reports = --json $(BENCH_OUT)/$(1).json --markdown $(BENCH_OUT)/$(1).md --html $(BENCH_OUT)/$(1).html --hlog $(BENCH_OUT)/$(1).hlog
# A subcommand with its reports: NAME, flags, and what the reports are called if not NAME. A report that is not sound is a failure.
define measured
	@mkdir -p $(BENCH_OUT)
	target/release/sluice-bench $(1) $(2) $(call reports,$(or $(3),$(1)))
	target/release/sluice-bench check $(BENCH_OUT)/$(or $(3),$(1)).json
endef

setup-bench: setup ## Install nginx, which the benchmarks compare with, its service off, and perf (Debian 12, root)
	@PATH="$$PATH:/usr/sbin"; set --; \
	command -v nginx >/dev/null || set -- nginx-light; \
	command -v perf >/dev/null || set -- "$$@" linux-perf; \
	[ "$$#" -eq 0 ] || deploy/setup.sh $(RUST) "$$@"

bench: build setup-bench ## Every scenario, the loss grid and the bare transmitter in short, some 20 minutes; reports in target/bench (needs root)
	target/release/sluice-bench run --out $(BENCH_OUT) $(SCENARIOS:%=bench/scenarios/%.toml)
	target/release/sluice-bench check $(BENCH_OUT)/bench.json
	$(call measured,grid,--rtt 20 --seconds 4 --rounds 1,grid-short)
	$(call measured,limit,--frame 1514 --rounds 1,limit-short)

bench-quick: build ## Whether the harness works, 2 minutes: reports are checked, speed is not (needs root)
	target/release/sluice-bench run --out $(BENCH_OUT)/quick $(QUICK:%=bench/scenarios/%.toml)
	target/release/sluice-bench check --needs xdp,kernel $(BENCH_OUT)/quick/bench.json

bench-figures: build setup-bench ## The rows that have a goal, ROUNDS=7 rounds, some 20 minutes; reports in target/bench/figures (needs root)
	target/release/sluice-bench run --rounds $(ROUNDS) --out $(BENCH_OUT)/figures $(FIGURES:%=bench/scenarios/%.toml)
	target/release/sluice-bench check $(BENCH_OUT)/figures/bench.json
	$(call measured,limit,--frame 1514 --rounds $(ROUNDS),figures/limit)

bench-limit: build ## Frames per second of a bare AF_XDP transmitter, and the copy lane beside it, 2 minutes (needs root)
	$(call measured,limit)

bench-goodput: build ## Goodput of one flow, curl as the client (needs root)
	$(call measured,goodput)

bench-engine: build ## Cost of a segment in memory beside smoltcp, 1 to 10,000 connections
	$(call measured,engine)

bench-scale: build ## What a second worker on a second core adds, in memory: whole turns, and the stack alone
	cargo bench $(CARGO_FLAGS) -p sluiced --bench scale
	$(call measured,engine,--workers 2 --rounds 9 --connections 64 --connections 1000,scale)

bench-million: build ## A million idle connections: in memory, and beside requests over a veth pair, 3 minutes (needs root)
	$(call measured,engine,--idle 1000000 --rounds 3,million)
	target/release/sluice-bench run --out $(BENCH_OUT)/resting-million bench/scenarios/resting-million.toml
	target/release/sluice-bench check $(BENCH_OUT)/resting-million/bench.json

bench-grid: build ## Goodput over loss and round-trip time beside kernel CUBIC and BBR, 9 minutes per round (needs root)
	$(call measured,grid)

bench-flood: build ## Goodput and new connections under a flood of SYNs (needs root)
	$(call measured,flood)

bench-fairness: build ## Shares of a bottleneck beside kernel CUBIC, with Jain's index, 13 minutes (needs root)
	$(call measured,fairness)

bench-peers: build ## To and from Linux through 20 kinds of bad links, every controller, every byte compared (needs root)
	$(call measured,peers)

# Seeds of the simulation: each is a scenario of its own, replayed with SEED=n.
SEEDS ?= 100000

sim: setup ## Run SEEDS=100000 seeds of the TCP simulation, release profile
	SEEDS=$(SEEDS) cargo test $(CARGO_FLAGS) --release -p sluice-tcp --test simulation -- --nocapture --test-threads=1
	SEEDS=$(SEEDS) cargo test $(CARGO_FLAGS) --release -p sluice-tcp --test two_stacks -- --nocapture --test-threads=1
	@$(MAKE) --no-print-directory sim-same

# The trace of a seed depends on nothing but the seed: not on the run, nor on optimisation and debug assertions.
SAME_SEEDS ?= 200
SAME = SEEDS=$(SAME_SEEDS) cargo test $(CARGO_FLAGS) -p sluice-tcp --test simulation --test two_stacks -- --nocapture 2>&1 \
	| sed -n 's/.*\(trace [0-9a-f]*\)$$/\1/p' | sort

sim-same: setup ## Compare traces of SAME_SEEDS=200 seeds of the simulation: twice in the dev profile and in release, one minute
	@file=$$(mktemp); trap 'rm -f '$$file EXIT; $(SAME) >$$file & \
	dev=$$($(SAME)); wait; again=$$(cat $$file); release=$$($(subst cargo test,cargo test --release,$(SAME))); \
	if [ -n "$$dev" ] && [ "$$dev" = "$$again" ] && [ "$$dev" = "$$release" ]; then \
		echo "the same in dev, dev and release:" $$dev; \
	else echo "traces differ: dev" $$dev "dev" $$again "release" $$release; exit 1; fi

# One minute per target unless told otherwise. The corpora are replayed by `make test`, on stable.
SECONDS ?= 60

fuzz: setup ## Fuzz every target for SECONDS=60 each (needs nightly and cargo-fuzz)
	@fuzz/run.sh $(SECONDS)

demo: build ## The first transfer: curl downloads files from the userspace TCP, every byte checked
	@bench/demo.sh

lint: setup ## Formatting, clippy and rustdoc with warnings as errors, shellcheck
	cargo fmt --all -- --check
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --workspace --no-deps --quiet
	shellcheck -x deploy/*.sh bench/*.sh fuzz/*.sh daemon/tests/guest/*.sh daemon/tests/guest/init .ci/run
	shellcheck -s sh daemon/tests/guest/*.task

fmt: ## Format the tree
	cargo fmt --all

clean: ## Remove everything built
	cargo clean

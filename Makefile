# Every target installs what it needs first (tests/setup), and installs nothing twice.
# Build outputs are shared: demo and build use the release profile, test and lint the dev profile.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build demo check test test-all test-isolated test-kill chaos chaos-mutants compare-delivery compare-plumbing soundness soundness-mutants compare compare-clamscan \
	compare-prefilter memory soak scaling hostile session fuzz fuzz-plant bench lint setup image image-twice pod-test k8s-test k8s-demo \
	shellcheck doc deny msrv features package api-diff gate

CARGO ?= cargo
# Exactly the versions of Cargo.lock. `make CARGO_FLAGS= …` lets cargo change them.
CARGO_FLAGS ?= --locked
# For `make demo`: e.g. `make demo ARGS='--brokers broker:9092'`. For `make bench`: which bench, e.g. ARGS='--bench engine'.
ARGS ?=
# For `make session`: how long replicas are throttled.
SESSION_SECONDS ?= 180
# For `make compare-clamscan`: how many files the tree has.
TREE_FILES ?= 20000
# For `make compare-prefilter`: every so manyth line of the logs is compared; 1 is all of them, of windows-events every 20th.
PREFILTER_NTH ?= 50
# For `make test-kill`: how often a replica is killed.
KILL_ROUNDS ?= 5
# For `make chaos`: how many seeds shall have held, with those that have held before.
SEEDS ?= 20
# A broker on a busy machine that does not tell its controller in time that it lives is fenced off: a fault, but none of the schedule's.
CHAOS_BROKER_SESSION_MS ?= 12000
# For `make compare-delivery`: how many records each of the ten runs answers.
DELIVERY_RECORDS ?= 300000
# For `make compare-plumbing`: how many records each of the ten runs answers.
PLUMBING_RECORDS ?= 1000000
# For `make soak`: how long it runs; from 240 on it is held to its bounds.
SOAK_SECONDS ?= 300
# For `make memory`: how many signatures the set has, as a part of the official one's 8.7 million; from 0.99 on it is held to its bound.
MEMORY_SCALE ?= 1
# For `make scaling`: how long each number of replicas is measured.
SCALING_SECONDS ?= 20
# For `make hostile`: how many ordinary records each run has, which kinds of hostile ones (all), and which isolation (both).
HOSTILE_RECORDS ?= 300000
HOSTILE_KINDS ?=
HOSTILE_ISOLATION ?=
# For `make soundness`: how many messages, which, and how few have to do for each planted fault.
SOUNDNESS_MESSAGES ?= 2000000
SOUNDNESS_SEED ?= 20260301
MUTANT_MESSAGES ?= 400000
# For `make fuzz`: seconds of CPU time for each target, which targets, and --keep to keep the inputs that are worth it.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= message views rules config signatures gate
FUZZ_FLAGS ?=
# For `make image`: a directory of signatures to bake in.
DB ?=
# For `make msrv`: the toolchain, by default the rust-version of Cargo.toml.
MSRV ?= $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
# For `make api-diff`: a commit to compare with, by default the newest release tag.
BASE ?=
# For `make gate`: the results of the jobs that have to succeed.
RESULTS ?=

help: ## this list
	@echo 'usage: make TARGET'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## release build: leaves target/release/scanner-bin, and its debug information in scanner-bin.debug
	@tests/setup build
	$(CARGO) build --release $(CARGO_FLAGS) --package scanner-bin
	@tests/public strip target/release/scanner-bin

demo: build ## the main job on an embedded broker, no Kafka and no database needed
	target/release/scanner-bin demo $(ARGS)

image: ## container image without a container engine: leaves target/image/out, says size and digest; DB=DIR bakes signatures in
	@tests/setup image
	@CARGO='$(CARGO)' DB='$(DB)' deploy/image/build

image-twice: ## the image of HEAD, built from nothing in two directories: the same digest; a quarter of an hour
	@tests/setup image
	@CARGO='$(CARGO)' deploy/image/twice

pod-test: ## deploy/pod.yaml under a real kubelet and under podman, beside a real Apache Kafka (needs root)
	@tests/setup pod
	@CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' tests/pod

k8s-test: ## every overlay of deploy/kustomize on a real Kubernetes API server (needs root)
	@tests/setup pod
	@tests/k8s

k8s-demo: ## one pod becomes three on a real Kubernetes, beside a real Apache Kafka: writes docs/scaling-demonstration.md (needs root)
	@tests/setup pod
	@CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' tests/k8s-demo

check: lint deny ## lint, licences, unit tests and integration tests without a broker: for while you work
	@CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' tests/suite check

test: ## everything that a change must pass, on a real Apache Kafka
	@tests/setup test
	@CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' tests/suite

test-all: ## test and the long forms, one after the other: hours (TEST_ALL names some)
	@tests/setup test
	@CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' MAKE='$(MAKE)' tests/all $(TEST_ALL)

test-isolated: ## all tests with libclamav in processes of its own, on a real Apache Kafka
	@tests/setup test
	@TEST_ISOLATION=process CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' tests/suite

test-kill: ## kill -9 of a replica under load on a real Apache Kafka, KILL_ROUNDS times (5)
	@tests/setup test
	SCANNER_TEST_KILL_ROUNDS=$(KILL_ROUNDS) $(CARGO) test $(CARGO_FLAGS) --package scanner-bin --test it kafka::kill:: -- --nocapture

chaos: ## replicas and the broker killed, stopped and frozen at random on a real Apache Kafka: SEEDS (20) of 45 s, goes on where it ended
	@tests/setup test
	KAFKA_BROKER_SESSION_MS=$(CHAOS_BROKER_SESSION_MS) SCANNER_TEST_CHAOS_SEEDS=$(SEEDS) $(CARGO) test $(CARGO_FLAGS) --package scanner-bin --test chaos -- --nocapture --test-threads=1
	SCANNER_TEST_AWAY_SECONDS=60 $(CARGO) test $(CARGO_FLAGS) --package scanner-bin --test it kafka::topics:: -- --nocapture

chaos-mutants: ## build seven faults into the scanner and see that seeds of the same schedule find each
	@tests/setup test
	KAFKA_BROKER_SESSION_MS=$(CHAOS_BROKER_SESSION_MS) $(CARGO) test $(CARGO_FLAGS) --package scanner-bin --features chaos-faults --test chaos \
		each_deliberate_fault -- --nocapture

compare-delivery: ## throughput of exactly-once and at-least-once delivery on a real Apache Kafka (DELIVERY_RECORDS): at least 0.85
	@tests/setup test
	SCANNER_TEST_DELIVERY_RECORDS=$(DELIVERY_RECORDS) $(CARGO) test --release $(CARGO_FLAGS) --package scanner-bin \
		--test it kafka::exactly_once::exactly_once_delivery_costs -- --nocapture

compare-plumbing: ## throughput of the service without scanning and of a bare relay on a real Apache Kafka (PLUMBING_RECORDS): at least 0.8
	@tests/setup test
	SCANNER_TEST_PLUMBING_RECORDS=$(PLUMBING_RECORDS) $(CARGO) test --release $(CARGO_FLAGS) --package scanner-bin --test plumbing -- --nocapture

soundness: ## is clean what the prefilter clears? libclamav judges SOUNDNESS_MESSAGES (2,000,000); about an hour
	@tests/setup test
	SCANNER_TEST_SOUNDNESS=$(SOUNDNESS_MESSAGES) SCANNER_TEST_SEED=$(SOUNDNESS_SEED) $(CARGO) test --release $(CARGO_FLAGS) \
		--package libclamav-scan --test soundness -- --exact what_is_cleared_is_clean --nocapture

soundness-mutants: ## put faults into the prefilter, one after the other, and see that each is caught in MUTANT_MESSAGES
	@tests/setup test
	@CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' SOUNDNESS_MESSAGES=$(MUTANT_MESSAGES) SOUNDNESS_SEED=$(SOUNDNESS_SEED) \
		scanlib/tests/soundness/mutants/run

compare: ## every finding of clamscan in 33,392 real messages, name for name (needs the test data)
	@tests/setup test
	SCANNER_TEST_FULL=1 $(CARGO) test $(CARGO_FLAGS) --package scanner-bin --test it scan::every_finding -- --nocapture

compare-clamscan: build ## TREE_FILES files (20,000) by clamscan and by scanner-bin: same verdicts, and faster
	@tests/setup test
	SCANNER_TEST_TREE_FILES=$(TREE_FILES) SCANNER_TEST_PROGRAM=$(CURDIR)/target/release/scanner-bin \
		$(CARGO) test $(CARGO_FLAGS) --package scanner-bin --test it scan_compare:: -- --nocapture

compare-prefilter: build ## real log lines with and without the prefilter: the same verdicts (PREFILTER_NTH; needs the test data)
	@tests/setup test
	SCANNER_TEST_PREFILTER_NTH=$(PREFILTER_NTH) SCANNER_TEST_PROGRAM=$(CURDIR)/target/release/scanner-bin \
		$(CARGO) test --release $(CARGO_FLAGS) --package scanner-bin --test it prefilter_compare:: -- --nocapture --test-threads=1

memory: ## what a replica takes with a set of the official size, all of it, the part for logs and none, beside clamd and Python (MEMORY_SCALE)
	@tests/setup memory
	SCANNER_TEST_MEMORY_SCALE=$(MEMORY_SCALE) $(CARGO) test --release $(CARGO_FLAGS) --package scanner-bin --test footprint -- --nocapture

soak: ## five minutes at full rate on a real Apache Kafka, with reloads and bad records: nothing grows (SOAK_SECONDS)
	@tests/setup test
	SCANNER_TEST_SOAK_SECONDS=$(SOAK_SECONDS) $(CARGO) test --release $(CARGO_FLAGS) --package scanner-bin --test it kafka::soak:: -- --nocapture

scaling: ## one, two and three replicas with a fifth of a core each on a real Apache Kafka: three do at least 2.8 times as much (SCALING_SECONDS)
	@tests/setup test
	SCANNER_TEST_SCALING_SECONDS=$(SCALING_SECONDS) $(CARGO) test --release $(CARGO_FLAGS) --package scanner-bin --test scaling \
		-- --exact replicas_share_the_work_and_three_do_almost_three_times_as_much --nocapture

hostile: ## hostile records of every kind among ordinary ones on a real Apache Kafka: each costs its own verdict, nothing else (HOSTILE_RECORDS)
	@tests/setup test
	SCANNER_TEST_HOSTILE_RECORDS=$(HOSTILE_RECORDS) SCANNER_TEST_HOSTILE_KINDS='$(HOSTILE_KINDS)' SCANNER_TEST_HOSTILE_ISOLATION=$(HOSTILE_ISOLATION) \
		$(CARGO) test --release $(CARGO_FLAGS) --package scanner-bin --test hostile -- --nocapture --test-threads=1

session: ## a replica with a tenth of a core stays in its group for SESSION_SECONDS (180), and a killed one is replaced within 15 s (needs root)
	@tests/setup test
	SCANNER_TEST_SESSION_SECONDS=$(SESSION_SECONDS) $(CARGO) test $(CARGO_FLAGS) --package scanner-bin --test session -- --nocapture

fuzz: ## fuzz each of FUZZ_TARGETS for FUZZ_SECONDS (60) of CPU time; needs a nightly toolchain and cargo-fuzz
	@tests/setup fuzz
	@for target in $(FUZZ_TARGETS); do fuzz/run $(FUZZ_FLAGS) $$target $(FUZZ_SECONDS); done

fuzz-plant: ## plant a bug for each of FUZZ_TARGETS and see that the fuzzer finds it
	@tests/setup fuzz
	@fuzz/plant $(FUZZ_TARGETS)

bench: ## criterion benches, and the comparison with clamd and clamscan
	@tests/setup bench
	$(CARGO) bench $(CARGO_FLAGS) --package benches $(ARGS)

lint: shellcheck ## formatting, clippy, documentation and shell scripts; any warning is an error
	@tests/setup lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc $(CARGO_FLAGS) --workspace --no-deps

shellcheck: ## check every shell script
	@tests/setup shellcheck
	git grep -lIzE '^#!(/usr)?/bin/(env )?(ba)?sh' | xargs -0 shellcheck -x

doc: ## API documentation, with and without an installed libclamav; any warning is an error
	@tests/setup lint
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc $(CARGO_FLAGS) --workspace --no-deps
	@CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' tests/public docs-rs

deny: ## licences, sources and advisories of all dependencies (deny.toml)
	@tests/setup deny
	@CARGO='$(CARGO)' tests/public deny

msrv: ## build with the oldest supported Rust (MSRV)
	@tests/setup msrv $(MSRV)
	@CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' tests/public msrv $(MSRV)

features: ## clippy over every combination of the library's features
	@tests/setup lint
	@CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' tests/public features

package: ## package the published crates and build them from their archives; publishes nothing
	@tests/setup build
	@CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' tests/public package

api-diff: ## compare the public API with the newest release tag, or with BASE
	@tests/setup api
	@CARGO='$(CARGO)' tests/public api-diff $(BASE)

gate: ## fail unless every word of RESULTS is "success"
	@tests/public gate $(RESULTS)

setup: ## install what all targets need, build nothing
	@tests/setup lint
	@tests/setup test

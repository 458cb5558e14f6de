# Two commands are for everybody: `make demo` and `make test`. Both install what is missing (PostgreSQL and Redis from
# the distribution, on Debian and Ubuntu); a Rust toolchain is assumed. No target uses or stops a server that is
# already there: the demo and the tests start private ones.

CARGO ?= cargo
# Tests wait more than they compute; the servers they wait for are their own.
TEST_THREADS ?= 6

# How long `make storm` rages, and its seed; empty: a new one.
STORM_SECONDS ?= 60
STORM_SEED ?=

# Parts that `make bench` measures; empty: all.
BENCH ?=

.PHONY: help demo test test-matrix storm storm-mutants bench fmt lint servers build clean

help:
	@sed -n 's/^## //p' Makefile

## make demo         see it work on private servers, about ten seconds after the build (unoptimised: it builds in a minute)
demo: servers
	$(CARGO) build --locked
	target/debug/pgevict demo

## make test         format, lints, all tests
test: lint
	@tests/servers test
	$(CARGO) test --locked -- --test-threads=$(TEST_THREADS)

## make test-matrix  the end-to-end and capture tests against PostgreSQL 14 to 18, Redis 6.2 and 7.0, Valkey 8 and 9
test-matrix: servers
	$(CARGO) test --locked --no-run --test e2e --test capture
	tests/matrix

## make storm        everything at once, with faults, for STORM_SECONDS (60) from STORM_SEED (a new one, printed)
storm: servers
	STORM_SECONDS=$(STORM_SECONDS) STORM_SEED=$(STORM_SEED) $(CARGO) test --locked --test storm -- --nocapture a_storm

## make storm-mutants   plants bugs in the daemon, one after the other: each must be caught (25 minutes)
storm-mutants: servers
	$(CARGO) test --locked --features planted --test storm -- --nocapture every_planted_bug

## make bench        how fast it is beside others, into docs/benchmarks.md (22 minutes; BENCH="writers bulk": only these parts)
bench: servers
	BENCH="$(BENCH)" $(CARGO) bench --locked --bench measure

## make lint         what must hold before any test runs
lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --features planted -- -D warnings

## make fmt          format the code
fmt:
	$(CARGO) fmt

## make build        the binary, target/release/pgevict
build:
	$(CARGO) build --locked --release

# What the tests and the demo start; installs what is missing.
servers:
	@tests/servers

## make clean        remove what was built
clean:
	$(CARGO) clean

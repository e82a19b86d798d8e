# The two commands of the README are `demo` and `test`; the rest are daily ones. See CONTRIBUTING.md.

STATE ?= /var/lib/nacre
NACRE := target/release/nacre --state-dir $(STATE)
IMAGES := build/images
JUDGES ?= ../shared
# Tempest's lists to run; what needs no guest runs with drivers that only pretend.
LISTS ?= first-light identity network
LIST ?= first-light
DRIVER_identity := --driver fake
DRIVER_network := --driver fake
SEED ?= 20261124

.PHONY: help setup demo down test check unit demo-twice tempest conformance tempest-run fuzz deny e2e golden bench build-time image image-debian12
help:               ## This list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

setup:              ## Packages, release binary, guest image, Python clients: the only part that needs the internet
	@scripts/setup

demo: setup         ## A cloud on this machine and, through its API, a server that answers SSH (STATE=folder)
	@$(NACRE) up
	@.venv/bin/python tests/demo.py --state-dir $(STATE) --image $(IMAGES)/nacre-tiny.qcow2

down:               ## Stops that cloud, guests included
	@$(NACRE) down

test: check unit demo-twice e2e tempest  ## Everything that CI runs

unit:               ## Every crate's tests, on SQLite, PostgreSQL, the fakes, QEMU and OVN
	NACRE_REQUIRE_OVN=1 cargo test --workspace --locked --quiet

demo-twice:         ## The demo in a namespace, as a newcomer runs it
	tests/in-namespace tests/demo-twice

tempest: conformance  ## OpenStack's own tests, as CI runs them (LISTS=first-light identity), compared with docs/conformance.md

conformance:        ## Tempest's lists (LISTS=...), each against a cloud of its own; every skip must be explained
	@tests/conformance --document
	@if [ -d $(JUDGES)/tempest ]; then for list in $(LISTS); do $(MAKE) --no-print-directory tempest-run LIST=$$list || exit 1; done; \
	 else echo "tempest: not run, its kit is not in $(JUDGES) (JUDGES=folder)"; fi
tempest-run:
	TEMPEST_OUT=build/tempest $(JUDGES)/tempest/run-tempest.sh --setup
	TEMPEST_OUT=build/tempest TEMPEST_DHCP_CLIENT=udhcpc tests/in-namespace tests/with-cloud $(DRIVER_$(LIST)) -- $(JUDGES)/tempest/run-tempest.sh $(LIST)
	tests/conformance build/tempest/last

fuzz:               ## 200,000 malformed requests over every route (SEED=number for others)
	NACRE_FUZZ_REQUESTS=200000 NACRE_FUZZ_SEED=$(SEED) cargo test -p nacre --test it --locked fuzz -- --nocapture

check:              ## Formatting, layout, lints
	cargo fmt --check
	cargo xtask tidy
	cargo clippy --workspace --all-targets --locked -- -D warnings

deny:               ## Licences and sources of dependencies (`cargo install cargo-deny` first: minutes)
	cargo deny check bans licenses sources

e2e:                ## The guest image, then the whole cloud with real clients, in network namespaces
	images/tiny/test
	tests/in-namespace .venv/bin/pytest -q tests/e2e

golden:             ## The golden files anew (routes, policy, flows, versions): read their diff
	cargo xtask golden

bench:              ## Figures into bench/, beside the peer's (wants an idle machine)
	bench/run

build-time:         ## Seconds from a one-line edit in crates/compute to its test binaries
	@scripts/build-time

image:              ## The small guest image anew
	images/tiny/build $(IMAGES)/nacre-tiny.qcow2

image-debian12:     ## A Debian 12 cloud image with cloud-init
	images/debian12/build $(IMAGES)/debian12.qcow2

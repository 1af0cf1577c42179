# Needs Node ≥ 20 with npm, make, and one way to a Kubernetes API server (Go ≥ 1.26 is one; `make test` names the others).
# npm brings Node 24 with the other dependencies; `npm run` finds it first.

.DEFAULT_GOAL := help
.SUFFIXES:
NPM ?= npm
ARGS ?=
INSTALLED := node_modules/.installed

.PHONY: help install check test lint-chart demo dev run generate bench fuzz stories test-scale build release-files image

help: ## this list
	@awk 'BEGIN { FS = ":.*## "; print "make <target> [ARGS=\"…\"]\n" } \
	  /^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## install the dependencies, where the lock file has changed

# Errors only: npm may run on Node 20 here, and would warn of every package that wants Node 24, which it is just fetching.
$(INSTALLED): package-lock.json
	$(NPM) ci --loglevel=error
	@touch $@

check: $(INSTALLED) ## types, lint, generated files, unit tests, unused code: quick
	$(NPM) run --silent check

test: $(INSTALLED) ## check, sockets and processes, the vendor's SDKs, a real API server, end to end; the last line counts the tests
	@$(NPM) run --silent test -- $(ARGS)

lint-chart: $(INSTALLED) ## the Helm chart: its tools, its rights, and an install on a real API server; builds Helm once
	@$(NPM) run --silent test:chart

demo: $(INSTALLED) ## the whole product on this machine: good, slow and broken releases meet 200 devices
	@$(NPM) run --silent demo -- $(ARGS)

dev: $(INSTALLED) ## the same environment, left running; prints what to export
	@$(NPM) run --silent dev -- $(ARGS)

run: $(INSTALLED) ## the operator and its verifier against the current kubeconfig
	@$(NPM) run --silent start -- $(ARGS)

generate: $(INSTALLED) ## write crds/ from src/api, and the chart's schema, README and dashboards
	@$(NPM) run --silent generate

bench: $(INSTALLED) ## benchmarks, as one table; ARGS="--only NAME" for one of them
	@$(NPM) run --silent bench -- $(ARGS)

fuzz: $(INSTALLED) ## 100,000 malformed requests to the simulator, about half an hour; SIMULATOR_FUZZ=N for another number
	@$(NPM) run --silent test:fuzz

stories: $(INSTALLED) ## 10,000 random rollouts, about half an hour; STORIES=N for another number
	@$(NPM) run --silent test:stories

test-scale: $(INSTALLED) ## a rollout to 10,000 devices, twenty minutes or more; EDGEFLEET_SCALE=N for another size
	@$(NPM) run --silent test:scale

build: $(INSTALLED) ## bundle the programs into dist/, as in the image, with a bill of materials
	$(NPM) run --silent build

release-files: $(INSTALLED) ## what is attached to a release, in dist/release: definitions, chart, bill of materials, checksums
	@$(NPM) run --silent release-files

IMAGE ?= edge-fleet-operator:dev
image: ## the container image (IMAGE=name:tag; BASE=another image with Node 24)
	docker build --tag $(IMAGE) $(if $(BASE),--build-arg BASE=$(BASE)) \
	  --build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(git log -1 --format=%cI) $(ARGS) .

# Coracle. `make` alone lists the targets; what a target does is in scripts/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test e2e soak check crds images bench clean clean-cache install

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Boot a VM from its manifest in a pod sandbox on this machine, and show what happened
	@scripts/packages.sh build run guest
	@demo/run.sh

test: ## Run every test that this machine can run, and say what was skipped and why
	@scripts/packages.sh build run guest test
	@scripts/test.sh

e2e: ## Test on a real Kubernetes of its own (KUBECONFIG=…: on that one; RUNTIME=debian: with Debian's containerd)
	@scripts/packages.sh build run test e2e
	@scripts/e2e.sh

soak: ## Kill the cluster's programs at random for ten minutes while guests write (CORACLE_SOAK_SECONDS, CORACLE_SOAK_SEED)
	@scripts/packages.sh build run test e2e
	@CORACLE_SOAK_SECONDS=$${CORACLE_SOAK_SECONDS:-600} scripts/e2e.sh faults --nocapture

check: ## Format, lint, documentation, licences, generated files
	@scripts/packages.sh build check
	@scripts/check.sh

crds: ## Generate deploy/crds from the API types
	@scripts/crds.sh write

images: ## Build the container images as OCI archives
	@scripts/packages.sh build
	@scripts/build-images.sh --all --importer

install: ## Install coracle and the plugin kubectl-coracle in PREFIX/bin (/usr/local)
	@scripts/packages.sh build
	@scripts/install.sh

bench: ## Measure start time, CPU and memory beside bare qemu
	@scripts/packages.sh build run guest test
	@scripts/bench.sh

clean: ## Remove what was built in this checkout, and what a killed run left behind
	@scripts/clean.sh

clean-cache: ## Remove cached packages, images, guest disks and tools
	@scripts/clean.sh cache

# The commands of this repository; what they do is in scripts/.
.DEFAULT_GOAL := help
.PHONY: help setup sandbox-up demo demo-down test test-el test-driver

help: ## print this
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' Makefile | expand -t 16

setup: ## install what is missing: Debian packages, .venv, a running Docker Engine
	@scripts/setup

sandbox-up: setup ## make two hosts in containers, a registry and a model hub
	@scripts/sandbox up

demo: ## all of it: setup, sandbox, site.yml on it; prints evidence and endpoints
	@scripts/demo

demo-down: ## remove all that demo and sandbox-up made (not the cache)
	@scripts/sandbox down

test: setup ## everything that CI runs
	@scripts/test

test-el: setup ## the roles on EL 9 and EL 10, over a real dnf in Debian roots (part of test)
	@scripts/test el

test-driver: setup ## the path of a real NVIDIA driver, built by DKMS, without a GPU (minutes; not part of test)
	@scripts/test-driver

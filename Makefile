# SPDX-License-Identifier: MIT
#
# `make help` lists what there is to make. NAME=value on the command line changes a symbol of the menus for this
# one command (`make EPOCHS=3 SEEDS=3`); a variable of the environment with the same name does nothing.
#
# Exit status: 0, or 2 where a command failed: GNU make knows no other. The command's own exit code stands in make's
# last line (`Error 1`: a run failed, `Error 2`: bad configuration, nothing started; 130, 143: interrupted,
# resumable). A script that needs it calls scripts/run_matrix.py.

.DEFAULT_GOAL := all
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules
SHELL := /bin/sh

# The variables on the command line, each as one quoted word `NAME=value`, without those that are no symbols.
typed := $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v))
quote = '$(subst ','\'',$1)'
given = $(if $(filter $1,$(typed)),$(value $1))
Q := $(if $(filter-out 0,$(call given,V)),,@)
overrides = $(foreach v,$(sort $(filter-out PYTHON A B COMPARE DIR GPU_MIB LOCK PUBLISH TORCH V,$(typed))),$(call quote,$v=$(value $v)))

# Variables that only some targets read are refused where no target of this command reads them.
read_by_A := compare
read_by_B := compare
read_by_COMPARE := bench
read_by_DIR := summary update-graphs report
read_by_GPU_MIB := memory
read_by_PUBLISH := update-graphs
$(foreach v,A B COMPARE DIR GPU_MIB PUBLISH,$(if $(filter $v,$(typed)),$(if $(filter $(read_by_$v),$(MAKECMDGOALS)),,\
	$(error $v is read by $(read_by_$v) only))))

# Which Python: the one that the user names, else that of an active environment (conda's base is always active and
# says nothing), else our own in .venv. Packages are installed into our own only.
foreign := $(PYTHON)
ifeq ($(strip $(foreign)),)
ifneq ($(VIRTUAL_ENV),)
foreign := $(shell p="$$VIRTUAL_ENV/bin/python"; [ -x "$$p" ] && ! [ "$$VIRTUAL_ENV" -ef .venv ] && printf %s "$$p")
else ifneq ($(filter-out base,$(CONDA_DEFAULT_ENV)),)
foreign := $(CONDA_PREFIX)/bin/python
endif
endif
python := $(call quote,$(if $(foreign),$(foreign),.venv/bin/python))
suitable := $$(for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
ready := packages $(if $(strip $(overrides)),names)

# What stands on the command line reaches scripts as their arguments, not through the environment.
unexport $(typed)

##@ Train
.PHONY: all
all: packages ## train what is configured (no .config: the quickstart preset), then summary, graphs and report
	$(Q)exec $(python) scripts/pipeline.py $(overrides)

.PHONY: continue
continue: packages ## go on with an interrupted matrix
	$(Q)exec $(python) scripts/pipeline.py --continue $(overrides)

.PHONY: join
join: packages ## train beside other runners of the same runs: on another GPU, or another machine
	$(Q)exec $(python) scripts/pipeline.py --join $(overrides)

.PHONY: rerun
rerun: packages ## train everything again, into a new results folder
	$(Q)exec $(python) scripts/pipeline.py --rerun $(overrides)

.PHONY: data
data: packages ## fetch the data sets that the configuration needs
	$(Q)$(python) scripts/data.py $(overrides)

##@ Configure
.PHONY: menuconfig
menuconfig: packages ## choose models, optimizers, pruning and sparsities in menus
	$(Q)$(python) scripts/kconfig.py menuconfig $(overrides)

.PHONY: list-defconfigs
list-defconfigs: packages ## presets: number of runs and the question each answers
	$(Q)$(python) scripts/kconfig.py list-defconfigs $(overrides)

# help: defconfig-<name> | start from a preset: writes .config
defconfig-%: packages
	$(Q)$(python) scripts/kconfig.py defconfig $(call quote,$*) $(overrides)

.PHONY: dry-run
dry-run: packages ## names of the runs that `make` would train, and their number
	$(Q)$(python) scripts/kconfig.py dry-run $(overrides)

.PHONY: olddefconfig
olddefconfig: packages ## bring the .config of an older version up to date
	$(Q)$(python) scripts/kconfig.py olddefconfig $(overrides)

.PHONY: savedefconfig
savedefconfig: packages ## write the configuration as a preset: ./defconfig
	$(Q)$(python) scripts/kconfig.py savedefconfig $(overrides)

##@ Look
.PHONY: summary
summary: $(ready) ## table of the newest results, or of DIR=results/x
	$(Q)$(folder) $(python) scripts/results.py summary "$$@"

.PHONY: compare
compare: $(ready) ## compare two results folders: A=results/x B=results/y
	$(Q)$(python) scripts/results.py compare $(call quote,$(call given,A)) $(call quote,$(call given,B))

.PHONY: update-graphs
update-graphs: $(ready) ## draw the pictures of the newest results (or of DIR); a preset's full run, or PUBLISH=y: into images/ too
	$(Q)$(folder) $(python) scripts/update_graphs.py $(if $(call given,PUBLISH),--publish $(call quote,$(value PUBLISH))) "$$@"

.PHONY: report
report: $(ready) ## one self-contained report.html of the newest results, or of DIR
	$(Q)$(folder) $(python) scripts/report.py "$$@"

.PHONY: memory
memory: packages ## predicted peak memory of every run, no GPU needed; which fit into GPU_MIB=8000
	$(Q)$(python) scripts/memory.py $(if $(call given,GPU_MIB),--gpu-mib=$(call quote,$(GPU_MIB))) $(overrides)

.PHONY: bench
bench: packages ## measure speed; COMPARE=old.json shows what changed
	$(Q)$(python) scripts/bench.py $(if $(call given,COMPARE),--compare $(call quote,$(COMPARE))) $(overrides)

.PHONY: deps-tensorboard
deps-tensorboard: packages-tensorboard ## install TensorBoard, which shows what TENSORBOARD=y writes
	@printf '%s\n' $(call quote,look at the newest results with: $(dir $(if $(foreign),$(foreign),.venv/bin/python))tensorboard --logdir results/latest)

##@ Develop
.PHONY: check
check: packages-dev ## lint, types and tests
	$(Q)$(python) -m ruff check .
	$(Q)$(python) -m ruff format --check .
	$(Q)$(python) -m mypy
	$(Q)$(python) -m pytest -m "not soak" -n 2 --dist worksteal

.PHONY: lock
lock: packages ## renew requirements.lock: the newest packages, with their hashes
	$(Q)$(python) scripts/install.py --renew requirements.txt

.PHONY: soak
soak: packages-dev ## the long tests
	$(Q)$(python) -m pytest -m soak

.PHONY: clean
clean: ## remove caches; configuration, data and results stay
	$(Q)rm -rf build .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis ./*.egg-info
	$(Q)find . '(' -name .venv -o -name .git -o -name data -o -name results ')' -prune -o \
	-name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: mrproper
mrproper: clean ## remove the configuration and .venv too; data and results stay
	$(Q)rm -rf .venv .config .config.old defconfig

.PHONY: help
help: ## this list
	@awk -F ':.*## | [|] ' ' \
	/^##@/ { printf "\n%s\n", substr($$0, 5) } \
	/^# help: / { printf "  %-18s %s\n", substr($$1, 9), $$2 } \
	/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile
	@printf '\n%s\n' 'NAME=value changes a symbol for one command: make EPOCHS=3 SEEDS=3 TARGET_SPARSITY=0.5'
	@printf '%s\n' 'V=1 shows the commands. PYTHON=... uses that Python instead of .venv. The first make installs about 6 GB,'
	@printf '%s\n' 'with TORCH=cpu (no CUDA) less than 2 GB; LOCK=n takes the newest instead of those of requirements.lock.'

# "$@" becomes DIR; without it nothing (a script finds the newest itself), or the newest of another RESULTS_DIR.
folder = $(if $(call given,DIR),set -- $(call quote,$(value DIR));,set --; \
	results=$$($(python) scripts/kconfig.py value RESULTS_DIR $(overrides)) || exit; \
	[ "$$results" = results ] || set -- "$$results/latest";)

# A mistyped name is refused even where it would do no harm.
.PHONY: names
names: packages
	$(Q)$(python) scripts/kconfig.py names $(overrides)

# An environment of its user's is only looked at, and so is our own after it was made. install.py has said what is
# missing where it exits with 2.
torch := $(if $(filter TORCH,$(typed)),--torch $(call quote,$(value TORCH)))
lock := $(if $(filter LOCK,$(typed)),--lock $(call quote,$(value LOCK)))
look = $(Q)$(python) scripts/install.py --check $1 $(torch) || { \
	[ $$? = 2 ] || echo $(python)": this is no Python 3.11 or newer that works" >&2; exit 2; }
.PHONY: packages packages-dev packages-tensorboard
packages: $(if $(foreign),,.venv/.packages)
	$(if $(foreign)$(torch),$(call look,requirements.txt))
packages-dev: $(if $(foreign),,.venv/.packages-dev)
	$(if $(foreign)$(torch),$(call look,requirements-dev.txt))
packages-tensorboard: $(if $(foreign),,.venv/.packages-tensorboard)
	$(if $(foreign)$(torch),$(call look,requirements-tensorboard.txt))

.venv/.packages: requirements.txt
.venv/.packages-tensorboard: requirements-tensorboard.txt requirements.txt
.venv/.packages-dev: requirements-dev.txt requirements-tensorboard.txt requirements.txt
.venv/.packages .venv/.packages-tensorboard .venv/.packages-dev:
	$(Q)python=$(suitable); [ "$$python" ] || { echo "Python 3.11 or newer is needed, as python3" >&2; exit 2; }; \
	"$$python" scripts/install.py .venv $< $@ $(torch) $(lock)

# Every target is a command of ./fraud, which works without make.
.DEFAULT_GOAL := help
TARGETS := demo demo-status demo-logs demo-down demo-clean follow doctor data notebook unpause drift rollout users chargebacks rotate-keys audit-log
TARGETS += up build push images-offline down ps logs secrets test-unit test proof test-browser test-stack bench load lint typecheck lock help

# `make logs service=airflow-worker`, `make build service=api`; further options as ARGS="--follow".
# `make bench ARGS="latency --rate 500"`.
.PHONY: $(TARGETS)
$(TARGETS):
	@./fraud $@ $(ARGS) $(service)

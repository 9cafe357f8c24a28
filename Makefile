# Every target is a command of ./fraud, which works without make.
.DEFAULT_GOAL := help
TARGETS := demo demo-status demo-logs demo-down demo-clean follow unpause rotate-keys test proof test-browser test-stack lint typecheck lock help

.PHONY: $(TARGETS)
$(TARGETS):
	@./fraud $@ $(ARGS)

# SPDX-License-Identifier: MIT
#
# What runs things. Every target calls make again with the variant it needs: tools/check builds, runs and
# counts what passed and failed.

SUB = $(MAKE) --no-print-directory
export MAKE BUILD

.PHONY: deps test portable asan ubsan san tsan valgrind demo coverage fuzz lint format print-out print-flags
# The gateway's package makes it a running service of the machine: only where nobody lives (CI is set).
# Elsewhere its tests are skipped unless it is there: tools/deps janus.
deps:
	@tools/deps build test
	@tools/deps --optional loops
	@tools/deps --optional node
	@tools/deps --optional websockets
	@[ -z "$$CI" ] || tools/deps --optional janus

test: deps
	@+tools/check test

portable: deps
	@+tools/check portable
asan ubsan san tsan: deps
	@+tools/check $@
valgrind: deps
	@tools/deps valgrind
	@+tools/check valgrind

demo:
	@tools/deps build
	@tools/deps --optional typed
	@tools/deps --optional websockets
	@+$(SUB) demos examples
	@demo/run $(OUT)/demo

lint: deps
	@tools/deps lint
	@+tools/check lint

format:
	clang-format -i $$(git ls-files '*.c' '*.h' '*.cc')

# One test file alone, also while other things do not compile: make one T=timer [FILTER='timer/*']
.PHONY: one one-link compiled
T ?=
one:
	@+$(SUB) -k compiled test-plugins >/dev/null 2>&1 || true
	@+$(SUB) one-link
	$(OUT)/tests/one-$(T) $(if $(FILTER),--filter '$(FILTER)')
ONE_HELPERS := $(TEST_HELPERS:%.c=$(TEST_OBJ)/%.o)
compiled: $(CORE_OBJECTS) $(TYPED_OBJECTS) $(ONE_HELPERS)
one-link: $(patsubst %.c,$(TEST_OBJ)/%.o,$(wildcard tests/test_$(T).c tests/suite_$(T).c) $(RUNNER_SOURCE)) $(GEN_OBJECTS)
	@mkdir -p $(OUT)/tests
	@rm -f $(OBJ)/compiled.a
	@$(AR) rcs $(OBJ)/compiled.a $(wildcard $(CORE_OBJECTS) $(TYPED_OBJECTS) $(ONE_HELPERS))
	$(call say,LD,$(OUT)/tests/one-$(T))$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(TEST_LDFLAGS) \
	    -o $(OUT)/tests/one-$(T) $(filter %.o,$^) $(OBJ)/compiled.a $(TEST_LIBS) $(LIBS)

# Coverage of the library by its tests, lines and branches per file; build/coverage/html has the source.
coverage: deps
	@tools/deps coverage
	@find $(BUILD)/coverage -name '*.gcda' -delete 2>/dev/null || true
	@+$(SUB) tests VARIANT=coverage
	@tools/run-tests coverage $(BUILD)/coverage/tests/vouch-tests-plain -j2
	@mkdir -p $(BUILD)/coverage/html
	@gcovr --root . --object-directory $(BUILD)/coverage --filter 'lib/' --filter 'stream/' --filter 'rpc/' --filter 'plugin/' \
	    --print-summary --txt $(BUILD)/coverage/lines.txt --html-details $(BUILD)/coverage/html/index.html
	@gcovr --root . --object-directory $(BUILD)/coverage --filter 'lib/' --filter 'stream/' --filter 'rpc/' --filter 'plugin/' \
	    --branches --txt $(BUILD)/coverage/branches.txt
	@cat $(BUILD)/coverage/lines.txt $(BUILD)/coverage/branches.txt

# Finds go to build/fuzz: corpus/ what reaches new code, crashes/ what fails.
FUZZ_SECONDS ?= 20
fuzz:
	@tools/deps build fuzz
	@+$(SUB) fuzzers VARIANT=fuzz
	@VOUCH_RUN_TIMEOUT=$$(($(words $(FUZZ_TARGETS)) * ($(FUZZ_SECONDS) + 60) + 60)) \
	    tools/run-tests fuzz tools/run-fuzz $(BUILD)/fuzz $(FUZZ_SECONDS)

# For the scripts.
print-out:
	@echo $(OUT)
print-flags:
	@echo $(ALL_CPPFLAGS) -std=c11 -I$(GEN) -I$(GEN)/proto

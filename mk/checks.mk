# SPDX-License-Identifier: MIT
#
# What runs things. Every target calls make again with the variant it needs, through tools/check, which
# counts what passed and failed.

SUB = $(MAKE) --no-print-directory

# One test file alone, also while others do not compile: make one T=timer [FILTER='timer/*']
.PHONY: one one-link
T ?=
one:
	@+$(SUB) -k core-objects $(if $(wildcard tests/support*.c),$(patsubst tests/%.c,$(TEST_OBJ)/tests/%.o,$(wildcard tests/support*.c))) >/dev/null 2>&1 || true
	@+$(SUB) one-link
	$(OUT)/tests/one-$(T) $(if $(FILTER),--filter '$(FILTER)')
.PHONY: core-objects
core-objects: $(CORE_OBJECTS)
one-link: $(patsubst tests/%.c,$(TEST_OBJ)/tests/%.o,$(wildcard tests/test_$(T).c tests/suite_$(T).c) \
    $(filter tests/plain_runner.c tests/criterion_timeout.c,$(TEST_SOURCES))) $(GEN_OBJECTS)
	@mkdir -p $(OUT)/tests
	@rm -f $(OBJ)/compiled.a
	@$(AR) rcs $(OBJ)/compiled.a $(wildcard $(CORE_OBJECTS)) $(wildcard $(TEST_OBJ)/tests/support*.o)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $(OUT)/tests/one-$(T) $(filter %.o,$^) $(OBJ)/compiled.a $(TEST_LIBS) $(LIBS)

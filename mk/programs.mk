# SPDX-License-Identifier: MIT
#
# Programs on top of the library: demos, examples, benchmarks, tests, fuzz targets.

# ---- generated code: of tests, fuzz targets and examples -----------------------------------------------

GEN := $(BUILD)/gen
PROTOS := $(wildcard proto/*.proto)
PROGRAM_PROTOS := $(wildcard examples/*.proto demo/*.proto bench/echo.proto)
GEN_SOURCES := $(PROTOS:%.proto=$(GEN)/%.pb-c.c)
GEN_OBJECTS := $(PROTOS:%.proto=$(OBJ)/gen/%.pb-c.o)
PROGRAM_GEN_SOURCES := $(PROGRAM_PROTOS:%.proto=$(GEN)/%.pb-c.c)

$(GEN)/%.pb-c.c $(GEN)/%.pb-c.h: %.proto
	@mkdir -p $(@D)
	$(call say,GEN,$<)tools/check-proto $< && protoc-c --proto_path=. --c_out=$(GEN) $<
$(OBJ)/gen/%.o: $(GEN)/%.c $(OBJ)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CPPFLAGS) -I$(GEN) $(ALL_CFLAGS) -w -MMD -MP -c $< -o $@
.SECONDARY: $(GEN_SOURCES) $(PROGRAM_GEN_SOURCES)

# What includes generated headers: they are made first.
NEED_GEN := $(patsubst %.c,$(OBJ)/%.o,$(wildcard fuzz/fuzz_proto*.c))
NEED_PROGRAM_GEN := $(patsubst %.c,$(OBJ)/%.o,$(wildcard examples/*proto*.c demo/*proto*.c))
$(NEED_GEN): | $(GEN_SOURCES)
$(NEED_PROGRAM_GEN): | $(PROGRAM_GEN_SOURCES)
$(NEED_GEN) $(NEED_PROGRAM_GEN): private ALL_CPPFLAGS += -I$(GEN)

# ---- demo, examples, tools: public API only --------------------------------------------------

# Each file with a main is a program; the others of its directory are linked into all of them.
sources_in = $(filter-out $(without_typed) $(without_loops),$(wildcard $(1)/*.c))
programs_in = $(if $(sources_in),$(shell grep -l '^int main' $(sources_in)))
# Of the typed layers, those that a program can have: for protobuf, the compiler has to be there too.
USABLE := $(filter-out $(if $(shell command -v protoc-c 2>/dev/null),,proto),$(TYPED))
UNUSABLE := $(filter-out $(USABLE),$(TYPED_PRESENT))
without_typed = $(foreach n,$(UNUSABLE),$(wildcard $(1)/*$(n)*.c))
$(foreach n,$(USABLE),$(eval $(patsubst %.c,$(OBJ)/%.o,$(wildcard examples/*$(n)*.c demo/*$(n)*.c)): private ALL_CPPFLAGS += $($(n)_CFLAGS)))
# Loops of others are for who has them.
LOOPS := libevent libuv
libevent_DEBIAN := libevent-dev
libuv_DEBIAN := libuv1-dev
json_DEBIAN := libcjson-dev
pixl_DEBIAN := libcjson-dev libpcre2-dev
proto_DEBIAN := libprotobuf-c-dev protobuf-c-compiler
janus_DEBIAN := libcjson-dev
LOOPS_KNOWN := $(foreach n,$(LOOPS),$(if $(wildcard examples/loop_$(n).c),$(shell pkg-config --exists $(n) 2>/dev/null && echo $(n))))
without_loops = $(patsubst %,examples/loop_%.c,$(filter-out $(LOOPS_KNOWN),$(LOOPS)))
$(foreach n,$(LOOPS_KNOWN),$(eval $(OBJ)/examples/loop_$(n).o: private ALL_CPPFLAGS += $(shell pkg-config --cflags $(n))))
$(foreach n,$(LOOPS_KNOWN),$(eval $(OUT)/examples/loop_$(n): private LIBS += $(shell pkg-config --libs $(n))))

.PHONY: demos examples tools
define program_directory
$(1)_PROGRAMS := $$(sort $$(call programs_in,$(1)))
$(1)_COMMON := $$(filter-out $$($(1)_PROGRAMS),$$(call sources_in,$(1)))
$(1)_BINARIES := $$($(1)_PROGRAMS:%.c=$$(OUT)/%)
$(1)_GEN := $$(if $$(filter proto,$$(USABLE)),$$(patsubst %.proto,$$(OBJ)/gen/%.pb-c.o,$$(wildcard $(1)/*.proto)))
$$($(1)_BINARIES): $$(OUT)/$(1)/%: $$(OBJ)/$(1)/%.o $$($(1)_COMMON:%.c=$$(OBJ)/%.o) $$($(1)_GEN) $$(TYPED_STATIC) $$(STATIC_LIB)
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)$$(CC) $$(ALL_CFLAGS) $$(ALL_LDFLAGS) -o $$@ $$^ $$(TYPED_LIBS) $$(LIBS)
endef
$(foreach d,demo examples tools,$(eval $(call program_directory,$(d))))
demos: $(demo_BINARIES)
examples: $(examples_BINARIES)
	@$(foreach n,$(filter-out $(LOOPS_KNOWN),$(LOOPS)), \
	    echo 'note: examples/loop_$(n) is not built for want of $(n) (Debian: $($(n)_DEBIAN))';) \
	$(foreach n,$(UNUSABLE), \
	    echo 'note: examples of $(n) are not built for want of $($(n)_PACKAGE) (Debian: $($(n)_DEBIAN))';) :
tools: $(tools_BINARIES)

# The demo does without a layer that is not there.
$(OBJ)/demo/layers.o: $(OBJ)/layers.list
$(OBJ)/demo/layers.o: private ALL_CPPFLAGS += $(if $(filter json,$(USABLE)),-DDEMO_JSON) \
    $(if $(filter proto,$(USABLE)),-DDEMO_PROTO)
$(OBJ)/layers.list: FORCE
	$(call remember,$(USABLE))

comma := ,

# ---- tests -------------------------------------------------------------------------------------------

# Unit tests see the internals: they are linked with the objects, not with the library.
RUNNERS := tests/plain_runner.c tests/criterion_timeout.c
# Those of libvouch-pixl are left out with it; cJSON and protobuf-c the other tests need, too.
TESTS_LEFT_OUT := $(if $(filter pixl,$(TYPED)),,$(wildcard tests/*pixl*.c))
TEST_HELPERS := $(filter-out tests/test_%.c tests/suite_%.c $(RUNNERS) $(TESTS_LEFT_OUT),$(wildcard tests/*.c))
TEST_SOURCES := $(filter-out $(TESTS_LEFT_OUT),$(sort $(call for_platform,$(wildcard tests/test_*.c tests/suite_*.c)))) $(TEST_HELPERS)

# System calls that fail on command (tests/faults.h) take the GNU linker's --wrap.
ifeq ($(UNAME),Linux)
WRAPS := $(shell cat tests/faults.wraps 2>/dev/null)
TEST_LDFLAGS := $(WRAPS:%=-Wl,--wrap=%) -Wl,--wrap=protobuf_c_message_pack
# tests/faults.c refers to getpeereid weakly: that alone does not make libbsd needed.
TEST_LDFLAGS += $(if $(filter portable,$(PLATFORM)),-Wl$(comma)--no-as-needed)
else
FAULT_SOURCES := $(addprefix tests/,suite_faults.c suite_syscalls.c suite_allocations.c suite_short_io.c suite_errno.c \
    suite_oom.c suite_pixl_oom.c faults.c) $(wildcard tests/scenarios*.c)
TEST_SOURCES := $(filter-out $(FAULT_SOURCES),$(TEST_SOURCES))
endif

ifeq ($(RUNNER),plain)
RUNNER_SOURCE := tests/plain_runner.c
TEST_CPPFLAGS := -DVOUCH_PLAIN_RUNNER
TEST_LIBS :=
TESTS_BINARY := $(OUT)/tests/vouch-tests-plain
TEST_OBJ := $(OBJ)/plain
else
RUNNER_SOURCE := tests/criterion_timeout.c
TEST_CPPFLAGS :=
TEST_LIBS := -lcriterion
TESTS_BINARY := $(OUT)/tests/vouch-tests
TEST_OBJ := $(OBJ)
endif
TEST_CPPFLAGS += $(V_TESTFLAGS) -I$(GEN) -I$(GEN)/proto
TEST_LIBS += -lprotobuf-c -lcjson $(if $(filter pixl,$(TYPED)),$(pixl_LIBS)) \
    $(if $(filter janus,$(TYPED)),$(janus_LIBS))
TEST_SOURCES += $(RUNNER_SOURCE)
TEST_OBJECTS := $(TEST_SOURCES:%.c=$(TEST_OBJ)/%.o)

.PHONY: tests
tests: $(TESTS_BINARY)

$(TEST_OBJ)/tests/%.o: tests/%.c $(OBJ)/flags | $(GEN_SOURCES)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CPPFLAGS) $(TEST_CPPFLAGS) $(ALL_CFLAGS) $(WARNINGS) -MMD -MP -c $< -o $@
$(TESTS_BINARY): $(TEST_OBJECTS) $(GEN_OBJECTS) $(TYPED_OBJECTS) $(CORE_OBJECTS) $(OBJ)/tests.list
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(TEST_LDFLAGS) -o $@ $(filter %.o,$^) $(TEST_LIBS) $(LIBS)
$(OBJ)/tests.list: FORCE
	$(call remember,$(RUNNER) $(WRAPS) $(TEST_OBJECTS) $(TYPED_OBJECTS) $(CORE_OBJECTS))

# Programs that tests run as plugins.
TEST_PLUGINS := $(patsubst tests/plugins/%.c,$(OUT)/tests/plugins/%,$(wildcard tests/plugins/*.c))
.PHONY: test-plugins
test-plugins: $(TEST_PLUGINS)
tests: $(TEST_PLUGINS)
$(TEST_OBJ)/tests/plugins/%.o: tests/plugins/%.c $(OBJ)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CPPFLAGS) $(TEST_CPPFLAGS) $(ALL_CFLAGS) $(WARNINGS) -MMD -MP -c $< -o $@
$(TEST_PLUGINS): $(OUT)/tests/plugins/%: $(TEST_OBJ)/tests/plugins/%.o $(STATIC_LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

# Programs for those of Node.js to talk to: the public interface only.
NODE_TESTS := $(patsubst %.c,$(OUT)/%,$(wildcard tests/node/*.c))
.PHONY: node-tests
node-tests: $(NODE_TESTS)
$(NODE_TESTS): $(OUT)/tests/node/%: $(OBJ)/tests/node/%.o $(TYPED_STATIC) $(STATIC_LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(TYPED_LIBS) $(LIBS)
$(NODE_TESTS:$(OUT)/%=$(OBJ)/%.o): $(OBJ)/%.o: %.c $(OBJ)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(WARNINGS) -MMD -MP -c $< -o $@

# Tests that fail, to see that it is noticed.
SELFTEST := $(OUT)/selftest/$(RUNNER)
SELFTEST_SOURCES := $(wildcard tests/selftest/*.c) $(RUNNER_SOURCE)
.PHONY: selftest
selftest: $(SELFTEST)
$(TEST_OBJ)/tests/selftest/%.o: tests/selftest/%.c $(OBJ)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CPPFLAGS) $(TEST_CPPFLAGS) $(ALL_CFLAGS) $(WARNINGS) -MMD -MP -c $< -o $@
$(SELFTEST): $(SELFTEST_SOURCES:%.c=$(TEST_OBJ)/%.o)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(filter -lcriterion,$(TEST_LIBS))

# ---- fuzz targets ------------------------------------------------------------------------------------

FUZZ_TARGETS := $(patsubst fuzz/%.c,%,$(sort $(filter-out $(foreach n,$(TYPED_MISSING),$(wildcard fuzz/fuzz_$(n)*.c)),$(wildcard fuzz/fuzz_*.c))))
FUZZ_COMMON := $(filter-out fuzz/fuzz_%.c fuzz/replay_main.c,$(wildcard fuzz/*.c))
FUZZ_BINARIES := $(FUZZ_TARGETS:%=$(OUT)/fuzz/%)
REPLAY_BINARIES := $(FUZZ_TARGETS:%=$(OUT)/replay/%)
FUZZ_PARTS := $(FUZZ_COMMON:%.c=$(OBJ)/%.o) $(if $(filter proto,$(TYPED)),$(GEN_OBJECTS)) $(TYPED_OBJECTS) $(CORE_OBJECTS)

# The entry point of a fuzz target has no header.
$(OBJ)/fuzz/%.o: private MORE_WARNINGS := -Wno-missing-prototypes

.PHONY: fuzzers replays
fuzzers: $(FUZZ_BINARIES)
replays: $(REPLAY_BINARIES)

$(FUZZ_BINARIES): $(OUT)/fuzz/%: $(OBJ)/fuzz/%.o $(FUZZ_PARTS)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_CFLAGS) $(subst fuzzer-no-link,fuzzer,$(SANITIZE)) $(ALL_LDFLAGS) -o $@ $^ $(TYPED_LIBS) $(LIBS)
$(REPLAY_BINARIES): $(OUT)/replay/%: $(OBJ)/fuzz/%.o $(OBJ)/fuzz/replay_main.o $(FUZZ_PARTS)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(TYPED_LIBS) $(LIBS)

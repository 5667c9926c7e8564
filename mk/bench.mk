# SPDX-License-Identifier: MIT
#
# The benchmark: the suite and the programs that it starts (one for each library that is compared, where
# that library is found), and vouch-bench, which is installed.
#
#   make bench         everything, some minutes          make bench-deps    installs all peers
#   make bench-quick   what matters most, 45 s           make bench-check   instructions per call

B := $(OUT)/bench
BENCH_DEFINES := $(if $(filter json,$(USABLE)),-DBENCH_JSON) $(if $(filter proto,$(USABLE)),-DBENCH_PROTO)
BENCH_GEN := $(if $(filter proto,$(USABLE)),$(OBJ)/gen/bench/echo.pb-c.o)
bench_objects = $(patsubst %,$(OBJ)/bench/%.o,$(1))

BENCH_MACHINE := $(if $(filter linux,$(PLATFORM)),machine_linux,machine_posix)
BENCH_PARTS := $(call bench_objects,support case counters histogram measure $(BENCH_MACHINE))
BENCH_PEER := $(BENCH_PARTS) $(OBJ)/bench/peer.o
BENCH_VOUCH := $(call bench_objects,vouch_parts vouch_bytes vouch_one_way vouch_pending vouch_systems \
    $(if $(filter json,$(USABLE)),vouch_json) $(if $(filter proto,$(USABLE)),vouch_proto)) $(BENCH_GEN)
BENCH_SUITE := $(call bench_objects,suite plan pair results targets original syscalls hogs)

# ---- peers: NAME_PACKAGES as pkg-config knows them (or a header), NAME_DEBIAN as apt does --------------------

BENCH_SYSTEMS := grpc sdbus nng zeromq capnp
grpc_FLAGS := $(shell command -v protoc >/dev/null && command -v grpc_cpp_plugin >/dev/null && \
    pkg-config --exists protobuf && pkg-config --cflags --libs grpc++ protobuf 2>/dev/null)
sdbus_FLAGS := $(shell pkg-config --cflags --libs libsystemd 2>/dev/null)
nng_FLAGS := $(shell echo '#include <nng/nng.h>' | $(CC) -E -x c - >/dev/null 2>&1 && echo -lnng)
zeromq_FLAGS := $(shell pkg-config --cflags --libs libzmq 2>/dev/null)
capnp_FLAGS := $(shell command -v capnp >/dev/null && pkg-config --cflags --libs capnp-rpc 2>/dev/null)
BENCH_PEERS := $(foreach n,$(BENCH_SYSTEMS),$(if $(strip $($(n)_FLAGS)),$(n)))
peer_cflags = $(filter-out -l% -L% -Wl%,$($(1)_FLAGS))
peer_libs = $(filter -l% -L% -Wl%,$($(1)_FLAGS))

# vouch-bench runs everywhere; what the suite needs of the system is Linux's.
BENCH_PROGRAMS := $(B)/vouch-bench $(B)/plugin_start $(B)/instructions $(if $(filter Linux,$(UNAME)),$(B)/suite $(B)/peer_vouch $(B)/peer_raw \
    $(B)/count_malloc.so $(BENCH_PEERS:%=$(B)/peer_%))

$(OBJ)/bench/vouch_systems.o $(OBJ)/bench/suite.o: $(OBJ)/layers.list
$(OBJ)/bench/vouch_systems.o $(OBJ)/bench/suite.o: private ALL_CPPFLAGS += $(BENCH_DEFINES)
$(OBJ)/bench/vouch_json.o: private ALL_CPPFLAGS += $(json_CFLAGS)
$(OBJ)/bench/vouch_proto.o: private ALL_CPPFLAGS += -I$(GEN) $(proto_CFLAGS)
$(OBJ)/bench/vouch_proto.o: | $(GEN)/bench/echo.pb-c.c

bench_link = @mkdir -p $(@D); $(if $(V),,printf '  %-5s %s\n' LD '$@';) \
    $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^)
$(B)/suite: $(BENCH_SUITE) $(BENCH_PARTS)
	$(bench_link) -lm $(LIBS)
$(B)/peer_raw: $(call bench_objects,peer_raw raw) $(BENCH_PEER)
	$(bench_link) $(LIBS)
$(B)/peer_vouch: $(OBJ)/bench/peer_vouch.o $(BENCH_VOUCH) $(BENCH_PEER) $(TYPED_STATIC) $(STATIC_LIB)
	$(bench_link) $(TYPED_LIBS) $(LIBS)
$(B)/vouch-bench: $(OBJ)/bench/vouch_bench.o $(BENCH_VOUCH) $(BENCH_PARTS) $(TYPED_STATIC) $(STATIC_LIB)
	$(bench_link) $(TYPED_LIBS) $(LIBS)
$(B)/plugin_start: $(OBJ)/bench/plugin_start.o $(STATIC_LIB)
	$(bench_link) $(LIBS)
.PHONY: bench-plugins
bench-plugins: $(B)/plugin_start
	@$(B)/plugin_start
$(B)/count_malloc.so: $(call bench_objects,count_malloc counters)
	$(bench_link) -shared

define bench_c_peer
$(OBJ)/bench/peer_$(1).o: private ALL_CPPFLAGS += $$(call peer_cflags,$(1))
$(B)/peer_$(1): $(OBJ)/bench/peer_$(1).o $$(BENCH_PEER)
	$$(bench_link) $$(call peer_libs,$(1)) $$(LIBS)
endef
$(foreach n,sdbus nng zeromq,$(eval $(call bench_c_peer,$(n))))

# In C++, with code that their compilers generate.
BENCH_CXX := $(CXX) $(filter-out -std=c11,$(ALL_CPPFLAGS) $(ALL_CFLAGS)) -std=c++17 -isystem $(GEN)
$(GEN)/bench/echo_grpc.pb.cc $(GEN)/bench/echo_grpc.grpc.pb.cc &: bench/echo_grpc.proto
	@mkdir -p $(@D)
	$(call say,GEN,$<)protoc --cpp_out=$(GEN) --grpc_out=$(GEN) \
	    --plugin=protoc-gen-grpc="$$(command -v grpc_cpp_plugin)" $<
$(GEN)/bench/echo.capnp.c++: bench/echo.capnp
	@mkdir -p $(@D)
	$(call say,GEN,$<)capnp compile -oc++:$(GEN) $<

grpc_OBJECTS := $(OBJ)/gen/bench/echo_grpc.pb.o $(OBJ)/gen/bench/echo_grpc.grpc.pb.o
capnp_OBJECTS := $(OBJ)/gen/bench/echo.capnp.o
$(grpc_OBJECTS): $(OBJ)/gen/%.o: $(GEN)/%.cc $(OBJ)/flags
	@mkdir -p $(@D)
	$(call say,CXX,$<)$(BENCH_CXX) $(call peer_cflags,grpc) -w -MMD -MP -c $< -o $@
$(capnp_OBJECTS): $(OBJ)/gen/%.o: $(GEN)/%.c++ $(OBJ)/flags
	@mkdir -p $(@D)
	$(call say,CXX,$<)$(BENCH_CXX) $(call peer_cflags,capnp) -w -MMD -MP -c $< -o $@

define bench_cc_peer
$(OBJ)/bench/peer_$(1).o: bench/peer_$(1).cc $(OBJ)/flags | $(2)
	@mkdir -p $$(@D)
	$$(call say,CXX,$$<)$$(BENCH_CXX) $$(call peer_cflags,$(1)) -Wall -Wextra $(if $(filter 1,$(WERROR)),-Werror) \
	    -MMD -MP -c $$< -o $$@
$(B)/peer_$(1): $(OBJ)/bench/peer_$(1).o $$($(1)_OBJECTS) $$(BENCH_PEER)
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)$$(BENCH_CXX) $$(ALL_LDFLAGS) -o $$@ $$(filter %.o,$$^) $$(call peer_libs,$(1)) $$(LIBS)
endef
$(eval $(call bench_cc_peer,grpc,$(GEN)/bench/echo_grpc.grpc.pb.cc))
$(eval $(call bench_cc_peer,capnp,$(GEN)/bench/echo.capnp.c++))

.PHONY: benches bench bench-quick bench-deps bench-check
benches: $(BENCH_PROGRAMS)

bench bench-quick:
	@tools/deps build
	@tools/deps --optional typed
	@+$(SUB) benches
	@$(B)/suite $(if $(filter bench-quick,$@),--quick) --results $(B)/results.json $(BENCH_OPTIONS)
	$(if $(filter bench,$@),@bench/plot $(B)/results.json $(B))

bench-deps:
	@tools/deps build typed bench

# Instructions per call; fails when one grew by more than 10 %. UPDATE=1 writes them down instead.
bench-check:
	@tools/deps build typed valgrind
	@+$(SUB) $(B)/instructions
	@bench/check-instructions $(B)/instructions $(if $(UPDATE),--update)
$(B)/instructions: $(OBJ)/bench/instructions.o $(OBJ)/bench/support.o $(BENCH_GEN) $(TYPED_STATIC) $(STATIC_LIB)
	$(bench_link) $(TYPED_LIBS) $(LIBS)
$(OBJ)/bench/instructions.o: $(OBJ)/layers.list
$(OBJ)/bench/instructions.o: private ALL_CPPFLAGS += $(BENCH_DEFINES) -I$(GEN) $(json_CFLAGS) $(proto_CFLAGS)
$(OBJ)/bench/instructions.o: | $(if $(filter proto,$(USABLE)),$(GEN)/bench/echo.pb-c.c)

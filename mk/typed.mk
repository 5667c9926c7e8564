# SPDX-License-Identifier: MIT
#
# The libraries on top of libvouch, each made of stream/NAME_*.c and rpc/NAME_*.c, and built where
# pkg-config knows the packages of others that it needs. Some are on top of another of them (ON). What a
# header does not show (HIDDEN) is for who links statically.

# The WebSocket transports of libvouch-janus: made where libwebsockets is there, or as the command line
# says (make JANUS_WEBSOCKETS= : without).
JANUS_WEBSOCKETS ?= $(shell pkg-config --exists libwebsockets 2>/dev/null && echo libwebsockets)
JANUS_WITHOUT := $(if $(strip $(JANUS_WEBSOCKETS)),rpc/janus_ws_none.c,rpc/janus_ws.c)

json_PACKAGE := libcjson
json_DESCRIPTION := JSON calls and streams for vouch, with cJSON
proto_PACKAGE := libprotobuf-c
proto_DESCRIPTION := protobuf calls and streams for vouch, with protobuf-c
pixl_PACKAGE := libcjson libpcre2-8
pixl_ON := json
pixl_DESCRIPTION := the pixl dialect (JSON lines) for vouch, with PCRE2
janus_PACKAGE := libcjson $(JANUS_WEBSOCKETS)
janus_HIDDEN := $(JANUS_WEBSOCKETS)
janus_ON := json
janus_DESCRIPTION := a client of the Janus gateway, on vouch

# Those that are on top of another come before it, as linkers want it.
TYPED_ALL := pixl janus json proto
typed_known = $(shell pkg-config --exists $($(1)_PACKAGE) 2>/dev/null && echo $(1))
TYPED_PRESENT := $(foreach n,$(TYPED_ALL),$(if $(wildcard include/vouch/$(n).h),$(n)))
TYPED := $(foreach n,$(TYPED_PRESENT),$(call typed_known,$(n)))
TYPED_MISSING := $(filter-out $(TYPED),$(TYPED_PRESENT))

# What of the core's hidden parts each has its own copy of.
TYPED_PARTS := $(patsubst %.c,$(OBJ)/%.o,$(call for_platform,lib/utf8.c lib/cond.c lib/os.c lib/os_linux.c lib/os_posix.c))

define typed_library
$(1)_OBJECTS := $$(patsubst %.c,$$(OBJ)/%.o,$$(filter-out $$(JANUS_WITHOUT),$$(sort $$(wildcard stream/$(1)_*.c rpc/$(1)_*.c))))
$(1)_ON_SHARED := $$(foreach n,$$($(1)_ON),$$(OUT)/$$(patsubst libvouch%,libvouch-$$(n)%,$$(SONAME)))
$(1)_LIBS := $$(shell pkg-config --libs $$($(1)_PACKAGE))
$(1)_CFLAGS := $$(shell pkg-config --cflags $$($(1)_PACKAGE))
$(1)_STATIC := $$(OUT)/libvouch-$(1).a
$(1)_SONAME := $$(patsubst libvouch%,libvouch-$(1)%,$$(SONAME))
$(1)_SHARED := $$(OUT)/$$($(1)_SONAME)
$(1)_LINK := $$(OUT)/libvouch-$(1).$$(SOEXT)
$(1)_PC := $$(OUT)/vouch-$(1).pc
$$($(1)_OBJECTS): private ALL_CPPFLAGS += $$($(1)_CFLAGS)

$$($(1)_STATIC): $$($(1)_OBJECTS) $$(TYPED_PARTS) $$(OBJ)/core.list $$(OBJ)/$(1).list
	@mkdir -p $$(@D)
	@rm -f $$@
ifneq ($$(LOCALIZE),)
	$$(call say,LD,$$@)$$(LD_R) -o $$(OBJ)/libvouch-$(1).o $$(filter %.o,$$^)
	$$(Q)$$(OBJCOPY) --localize-hidden $$(OBJ)/libvouch-$(1).o
	$$(Q)$$(AR) rcs $$@ $$(OBJ)/libvouch-$(1).o
else
	$$(call say,AR,$$@)$$(AR) rcs $$@ $$($(1)_OBJECTS) $$(TYPED_PARTS)
endif

$$($(1)_SHARED): $$($(1)_OBJECTS) $$(TYPED_PARTS) $$($(1)_ON_SHARED) $$(SHARED_LIB) $$(if $$(VERSION_SCRIPT),libvouch-$(1).map)
	$$(call say,LD,$$@)$$(CC) $$(ALL_CFLAGS) $$(ALL_LDFLAGS) \
	    $$(subst $$(SONAME),$$($(1)_SONAME),$$(subst libvouch.map,libvouch-$(1).map,$$(SHARED_FLAGS))) \
	    -o $$@ $$(filter %.o,$$^) $$($(1)_ON_SHARED) $$(SHARED_LIB) $$($(1)_LIBS) $$(LIBS)
$$($(1)_LINK): $$($(1)_SHARED)
	@ln -sf $$(<F) $$@

$$($(1)_PC): vouch-typed.pc.in $$(OBJ)/pc.list $$(OBJ)/$(1).list
	@sed -e 's|@PREFIX@|$$(PREFIX)|' -e 's|@LIBDIR@|$$(LIBDIR)|' -e 's|@INCLUDEDIR@|$$(INCLUDEDIR)|' \
	    -e 's|@VERSION@|$$(VERSION)|' -e 's|@NAME@|$(1)|' -e 's|@PACKAGE@|$$(strip $$($(1)_ON:%=vouch-%) $$(filter-out $$($(1)_HIDDEN),$$($(1)_PACKAGE)))|' -e 's|@HIDDEN@|$$($(1)_HIDDEN)|' \
	    -e 's|@DESCRIPTION@|$$($(1)_DESCRIPTION)|' vouch-typed.pc.in > $$@
$$(OBJ)/$(1).list: FORCE
	$$(call remember,$$($(1)_PACKAGE) $$($(1)_OBJECTS))
endef
$(foreach n,$(TYPED),$(eval $(call typed_library,$(n))))

TYPED_OBJECTS := $(foreach n,$(TYPED),$($(n)_OBJECTS))
TYPED_STATIC := $(foreach n,$(TYPED),$($(n)_STATIC))
TYPED_LIBS := $(foreach n,$(TYPED),$($(n)_LIBS))

.PHONY: typed
lib: typed
typed: $(foreach n,$(TYPED),$($(n)_STATIC) $($(n)_SHARED) $($(n)_LINK) $($(n)_PC))
ifneq ($(TYPED_MISSING),)
	@echo 'note: not built for want of $(foreach n,$(TYPED_MISSING),$($(n)_PACKAGE)): $(TYPED_MISSING:%=libvouch-%)'
endif

.PHONY: install-typed uninstall-typed
install: install-typed
uninstall: uninstall-typed
install-typed: typed
	install -d '$(DESTDIR)$(LIBDIR)/pkgconfig'
	$(foreach n,$(TYPED),install -m 644 $($(n)_STATIC) '$(DESTDIR)$(LIBDIR)/' && \
	    install -m 755 $($(n)_SHARED) '$(DESTDIR)$(LIBDIR)/' && \
	    ln -sf $($(n)_SONAME) '$(DESTDIR)$(LIBDIR)/$(notdir $($(n)_LINK))' && \
	    install -m 644 $($(n)_PC) '$(DESTDIR)$(LIBDIR)/pkgconfig/' &&) :
	$(if $(filter proto,$(TYPED)),install -d '$(DESTDIR)$(BINDIR)' && \
	    install -m 755 tools/check-proto '$(DESTDIR)$(BINDIR)/vouch-check-proto')
uninstall-typed:
	rm -f $(foreach n,$(TYPED),$(foreach f,$(notdir $($(n)_STATIC) $($(n)_SHARED) $($(n)_LINK)) \
	    pkgconfig/$(notdir $($(n)_PC)),'$(DESTDIR)$(LIBDIR)/$(f)'))
	rm -f '$(DESTDIR)$(BINDIR)/vouch-check-proto'

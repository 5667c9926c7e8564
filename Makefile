# SPDX-License-Identifier: MIT
#
# The build of vouch. Everything lands in build/; `make help` lists what can be asked for.
#
#   Makefile         the library, its installation, and the list of targets
#   mk/config.mk     compilers, platform, variants (sanitizers, coverage, ...) and their flags
#   mk/typed.mk      the libraries on top: libvouch-json, -proto, -pixl, -janus
#   mk/programs.mk   demos, examples, tests, fuzz targets
#   mk/bench.mk      the benchmark and the libraries that it compares
#   mk/checks.mk     what runs things: test, asan, tsan, valgrind, lint, coverage, fuzz
#
# A variant is one way to compile everything. Each has its own directory, so they do not disturb each
# other: build/obj/release is the default, `make VARIANT=asan ...` works in build/asan. The targets of
# mk/checks.mk are recursive calls with the right variant.

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

include mk/config.mk

# ---- the library ---------------------------------------------------------------------------------

# Of every pair of files for the same job on different systems one is compiled.
LINUX_ONLY := %_linux.c %_epoll.c
PORTABLE_ONLY := %_getpeereid.c %_posix.c %_poll.c
ifeq ($(PLATFORM),linux)
for_platform = $(filter-out $(PORTABLE_ONLY),$(1))
else
for_platform = $(filter-out $(LINUX_ONLY),$(1))
endif

# The typed layers are libraries of their own (mk/typed.mk).
TYPED_SOURCES := $(foreach n,json proto pixl janus,$(wildcard stream/$(n)_*.c rpc/$(n)_*.c))
CORE_SOURCES := $(sort $(call for_platform,$(filter-out $(TYPED_SOURCES),$(wildcard lib/*.c stream/*.c rpc/*.c plugin/*.c))))
CORE_OBJECTS := $(CORE_SOURCES:%.c=$(OBJ)/%.o)
PUBLIC_HEADERS = $(filter-out $(TYPED_MISSING:%=include/vouch/%.h),$(sort $(wildcard include/vouch/*.h)))

SONAME := $(call soname,0)
STATIC_LIB := $(OUT)/libvouch.a
SHARED_LIB := $(OUT)/$(SONAME)
SHARED_LINK := $(OUT)/libvouch.$(SOEXT)

.PHONY: all lib
all: lib
lib: $(STATIC_LIB) $(SHARED_LIB) $(SHARED_LINK) $(OUT)/vouch.pc

$(OBJ)/%.o: %.c $(OBJ)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(WARNINGS) $(MORE_WARNINGS) -MMD -MP -c $< -o $@

# One object with the internal symbols made local, so that a program that links the archive cannot
# collide with them. Without a fitting objcopy it is a plain archive.
$(STATIC_LIB): $(CORE_OBJECTS) $(OBJ)/core.list
	@mkdir -p $(@D)
	@rm -f $@
ifneq ($(LOCALIZE),)
	$(call say,LD,$@)$(LD_R) -o $(OBJ)/libvouch.o $(CORE_OBJECTS)
	$(Q)$(OBJCOPY) --localize-hidden $(OBJ)/libvouch.o
	$(Q)$(AR) rcs $@ $(OBJ)/libvouch.o
else
	$(call say,AR,$@)$(AR) rcs $@ $(CORE_OBJECTS)
endif

# A stale map does not stop the link: lint does. It is only said.
$(SHARED_LIB): $(CORE_OBJECTS) $(OBJ)/core.list $(if $(VERSION_SCRIPT),libvouch.map)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(SHARED_FLAGS) -o $@ $(CORE_OBJECTS) $(LIBS)
	@tools/update-map --check >/dev/null 2>&1 || \
	    echo "note: libvouch.map is not what the headers declare; tools/update-map brings it up to date"

$(SHARED_LINK): $(SHARED_LIB)
	@ln -sf $(<F) $@

# The version is said once, in the header.
VERSION := $(shell sed -n 's/^.define VOUCH_VERSION_STRING "\(.*\)"/\1/p' include/vouch/common.h 2>/dev/null)

$(OUT)/vouch.pc: vouch.pc.in $(OBJ)/pc.list
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	    -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS_PRIVATE@|-pthread $(LIBS)|' vouch.pc.in > $@

# Files that change only when what they say changes; what depends on them is rebuilt then.
.PHONY: FORCE
FORCE:
define remember
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(1))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(1))' > $@
endef
$(OBJ)/flags: FORCE
	$(call remember,$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(WARNINGS) $(ALL_LDFLAGS))
$(OBJ)/core.list: FORCE
	$(call remember,$(CORE_OBJECTS))
$(OBJ)/pc.list: FORCE
	$(call remember,$(PREFIX) $(LIBDIR) $(INCLUDEDIR) $(VERSION) $(LIBS))

# ---- installation --------------------------------------------------------------------------------

MAN_PAGES = $(filter-out $(TYPED_MISSING:%=docs/man/vouch_%.3),$(sort $(wildcard docs/man/*.[0-9])))
# "page name" for every function in the NAME section of a page: `man vouch_client_call` finds its page.
man_names = for page in $(notdir $(filter %.3,$(MAN_PAGES))); do \
    sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \(vouch_[a-z0-9_]*\).*/\1/p' "docs/man/$$page" | \
    while read -r name; do [ "$$name.3" = "$$page" ] || echo "$$page $$name"; done; done
man_target = $(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(1)))/$(notdir $(1))

.PHONY: install uninstall
install: lib $(OUT)/bench/vouch-bench
	install -d '$(DESTDIR)$(LIBDIR)/pkgconfig' '$(DESTDIR)$(INCLUDEDIR)/vouch'
	install -m 644 $(PUBLIC_HEADERS) '$(DESTDIR)$(INCLUDEDIR)/vouch/'
	install -m 644 $(STATIC_LIB) '$(DESTDIR)$(LIBDIR)/libvouch.a'
	install -m 755 $(SHARED_LIB) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/libvouch.$(SOEXT)'
	install -m 644 $(OUT)/vouch.pc '$(DESTDIR)$(LIBDIR)/pkgconfig/vouch.pc'
	install -d '$(DESTDIR)$(BINDIR)' '$(DESTDIR)$(MANDIR)/man1' '$(DESTDIR)$(MANDIR)/man3' '$(DESTDIR)$(MANDIR)/man7'
	install -m 755 $(OUT)/bench/vouch-bench '$(DESTDIR)$(BINDIR)/vouch-bench'
	install -m 644 $(filter %.1,$(MAN_PAGES)) '$(DESTDIR)$(MANDIR)/man1/'
	install -m 644 $(filter %.3,$(MAN_PAGES)) '$(DESTDIR)$(MANDIR)/man3/'
	install -m 644 $(filter %.7,$(MAN_PAGES)) '$(DESTDIR)$(MANDIR)/man7/'
	@$(man_names) | while read -r page name; do ln -sf "$$page" '$(DESTDIR)$(MANDIR)/man3'/"$$name.3"; done

uninstall:
	rm -f $(PUBLIC_HEADERS:include/%='$(DESTDIR)$(INCLUDEDIR)/%')
	rm -f '$(DESTDIR)$(LIBDIR)/libvouch.a' '$(DESTDIR)$(LIBDIR)/$(SONAME)' \
	    '$(DESTDIR)$(LIBDIR)/libvouch.$(SOEXT)' '$(DESTDIR)$(LIBDIR)/pkgconfig/vouch.pc'
	rm -f '$(DESTDIR)$(BINDIR)/vouch-bench'
	rm -f $(foreach m,$(MAN_PAGES),'$(call man_target,$(m))')
	@$(man_names) | while read -r page name; do rm -f '$(DESTDIR)$(MANDIR)/man3'/"$$name.3"; done
	-rmdir '$(DESTDIR)$(INCLUDEDIR)/vouch' 2>/dev/null

include mk/typed.mk
include mk/programs.mk
include mk/bench.mk
include mk/checks.mk

.PHONY: clean help
clean:
	rm -rf $(BUILD)

help:
	@cat mk/help.txt

-include $(shell test -d $(OBJ) && find $(OBJ) -name '*.d')

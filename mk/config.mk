# SPDX-License-Identifier: MIT
#
# Compilers, platform, variants and flags. From the command line: CC, CFLAGS, CPPFLAGS, LDFLAGS,
# BUILD, PREFIX, BINDIR, LIBDIR, INCLUDEDIR, MANDIR, DESTDIR, VARIANT, PLATFORM, WERROR=1, RUNNER=plain, V=1.

# In parallel unless told otherwise.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
endif

# Where everything goes.
BUILD ?= build

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' '$(1)' '$(2)';)

# ---- platform: which files of the pairs are compiled ----------------------------------------------

UNAME := $(shell uname -s)
PLATFORM ?= $(if $(filter Linux,$(UNAME)),linux,portable)
ifeq ($(filter linux portable,$(PLATFORM)),)
$(error PLATFORM is linux or portable, not $(PLATFORM))
endif

# The portable files on Linux: getpeereid(3) comes from libbsd there.
ifeq ($(UNAME)-$(PLATFORM),Linux-portable)
PLATFORM_CPPFLAGS := $(shell pkg-config --cflags libbsd 2>/dev/null)
LIBS += -lbsd
OUT_SUFFIX := $(if $(filter release,$(or $(VARIANT),release)),,-portable)
RELEASE_OUT := $(BUILD)/portable
RELEASE_OBJ := $(BUILD)/portable
endif
RELEASE_OUT ?= $(BUILD)
RELEASE_OBJ ?= $(BUILD)/release

# ---- variants: how it is compiled ------------------------------------------------------------------

VARIANT ?= release

# `CC ?=` would keep make's own default.
ifeq ($(origin CC),default)
CC := gcc
ifeq ($(shell command -v gcc),)
CC := cc
endif
endif
CXX := $(if $(filter default,$(origin CXX)),g++,$(CXX))
CLANG ?= clang
OBJCOPY ?= objcopy
LD_R ?= $(CC) -r -nostdlib

SANITIZE :=
RUNNER_DEFAULT := criterion
V_CFLAGS := -O1 -g -fno-omit-frame-pointer
V_TESTFLAGS :=
FORTIFIED :=

ifeq ($(VARIANT),release)
V_CFLAGS := -O2 -g
FORTIFIED := yes
else ifeq ($(VARIANT),debug)
V_CFLAGS := -O0 -g3
else ifeq ($(VARIANT),clang)
CC := $(CLANG)
V_CFLAGS := -O2 -g
FORTIFIED := yes
else ifeq ($(VARIANT),lint-gcc)
V_CFLAGS := -O2 -g
FORTIFIED := yes
else ifeq ($(VARIANT),lint-clang)
CC := $(CLANG)
V_CFLAGS := -O2 -g
FORTIFIED := yes
else ifeq ($(VARIANT),asan)
SANITIZE := -fsanitize=address
else ifeq ($(VARIANT),ubsan)
SANITIZE := -fsanitize=undefined -fno-sanitize-recover=all
else ifeq ($(VARIANT),san)
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
else ifeq ($(VARIANT),tsan)
SANITIZE := -fsanitize=thread
RUNNER_DEFAULT := plain
V_TESTFLAGS := -DVOUCH_TEST_SLOW=1
else ifeq ($(VARIANT),valgrind)
V_CFLAGS := -O1 -gdwarf-4 -fno-omit-frame-pointer
RUNNER_DEFAULT := plain
V_TESTFLAGS := -DVOUCH_TEST_SLOW=1 -DVOUCH_TEST_VALGRIND=1
else ifeq ($(VARIANT),coverage)
V_CFLAGS := -O0 -g --coverage -fprofile-update=atomic
RUNNER_DEFAULT := plain
else ifeq ($(VARIANT),fuzz)
CC := $(CLANG)
SANITIZE := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
RUNNER_DEFAULT := plain
else
$(error unknown VARIANT $(VARIANT))
endif

RUNNER ?= $(RUNNER_DEFAULT)

ifeq ($(VARIANT),release)
OUT := $(RELEASE_OUT)
OBJ := $(RELEASE_OBJ)
else
OUT := $(BUILD)/$(VARIANT)$(OUT_SUFFIX)
OBJ := $(OUT)
endif

# ---- flags -----------------------------------------------------------------------------------------

CFLAGS ?= $(V_CFLAGS)

cc_option = $(shell $(CC) -Werror $(1) -E -x c /dev/null >/dev/null 2>&1 && echo '$(1)')

# Level 3 where the compiler is known to do it.
ifneq ($(and $(FORTIFIED),$(filter -O1 -O2 -O3 -Os,$(CFLAGS))),)
FORTIFY := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=$(shell { $(CC) --version | grep -q clang && echo 2 || \
    { test "$$($(CC) -dumpversion | cut -d. -f1)" -ge 12 && echo 3 || echo 2; }; } 2>/dev/null)
endif

HARDENING := -fstack-protector-strong $(call cc_option,-fstack-clash-protection)

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes \
    -Wconversion $(if $(filter 1,$(WERROR)),-Werror)

ALL_CPPFLAGS := -D_GNU_SOURCE -I. -Iinclude $(PLATFORM_CPPFLAGS) $(FORTIFY) $(CPPFLAGS)
ALL_CFLAGS := -std=c11 $(CFLAGS) -fvisibility=hidden -fPIC -pthread $(HARDENING) $(SANITIZE)
ALL_LDFLAGS := -pthread $(LDFLAGS)

ifeq ($(UNAME),Darwin)
SOEXT := dylib
soname = libvouch.$(1).dylib
SHARED_FLAGS = -dynamiclib -install_name $(LIBDIR)/$(SONAME)
VERSION_SCRIPT :=
LOCALIZE :=
else
SOEXT := so
soname = libvouch.so.$(1)
VERSION_SCRIPT := libvouch.map
SHARED_FLAGS = -shared -Wl,-soname,$(SONAME) -Wl,--version-script=libvouch.map \
    -Wl,-z,relro,-z,now -Wl,--as-needed $(if $(SANITIZE),,-Wl,--no-undefined)
LOCALIZE := $(shell $(OBJCOPY) --help 2>/dev/null | grep -o -m1 -e --localize-hidden)
endif

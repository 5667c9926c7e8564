/* SPDX-License-Identifier: MIT */
/* The version of the library itself, which the headers of a program that links it may not be. */
#include <vouch/common.h>

const char *vouch_version(void) {
    return VOUCH_VERSION_STRING;
}

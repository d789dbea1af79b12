/* A 32-bit cst on a 64-bit system makes calls with other numbers. */
#ifdef __x86_64__
#include "launcher.h"

#include <asm/unistd_32.h>

#define NAME(list) list##_i386
#include "allowed.inc"
#endif

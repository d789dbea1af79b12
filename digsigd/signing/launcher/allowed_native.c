#include <asm/unistd.h>

#include "launcher.h"

#define NAME(list) list##_native
#include "allowed.inc"

// AMX for GCC, which is included before all that kernels.py compiles.
//
// Its intrinsics do not say what memory they read: of a configuration it sees 8 bytes of 64, and of a tile nothing. So
// stores that come before are left out, and the first instruction on a tile is an illegal one (GCC 12).
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#undef _tile_loadd
#define _tile_loadconfig(from) __asm__ volatile("ldtilecfg %0" : : "m"(*(const char(*)[64])(from)))
#define _tile_loadd(tile, from, stride) PHI_BOT_TILE_LOADD(tile, from, stride)
#define PHI_BOT_TILE_LOADD(tile, from, stride) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"((const void *)(from)), "r"((long)(stride)) : "memory")
#endif

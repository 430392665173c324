// Large pages for memory that is about to be written for the first time: the kernel then clears and maps 2 MiB at a
// time instead of 4 KiB, and fewer addresses have to be looked up.
#pragma once

#include <cstdint>

namespace pyhue {

// Asks for them for what lies wholly in [memory, memory + bytes). A wish: nothing happens where there are none.
void advise_huge_pages(void* memory, int64_t bytes);

}  // namespace pyhue

// What the tests ask of the search kernels beyond cuda/search.h.
#pragma once

#include "cuda/search.h"

namespace pyhue::cuda {

// Whether searches run the kernels for Hopper.
void choose_hopper(bool chosen);

// How often the screen lists each vector when the k-th distance of query q is distances[q]: (queries, n), 0 or 1.
void screen_audit(const Search& search, const Piece& piece, const float* distances, uint8_t* kept);

}  // namespace pyhue::cuda

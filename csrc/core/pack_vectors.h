// From stored vectors to coordinates and to their packed form: some at a time, so that what lies between never leaves
// the cache.
#pragma once

#include "core/memory.h"
#include "core/project.h"

namespace pyhue {

// Writes the filters of a piece, from its vectors. Returns false when interrupted: then not all of it is written.
bool pack_vectors(const Piece& piece, const Layout& layout, const Projection& projection, const FilterArrays& to,
                  const Executor& executor);

// Coordinates of a piece's vectors, in the order of their positions: values (piece.n, projection.dims()).
bool project_vectors(const Piece& piece, const Projection& projection, float* values, const Executor& executor);

}  // namespace pyhue

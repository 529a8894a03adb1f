"""Linear fits: rows of the design matrix, their triangular factor, and what solves it."""

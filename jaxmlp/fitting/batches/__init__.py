"""Structures side by side in arrays of fixed shape, and what potentials say of them."""

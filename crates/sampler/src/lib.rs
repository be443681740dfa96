//! Exact Markov chains and reweighting for lattice field theories

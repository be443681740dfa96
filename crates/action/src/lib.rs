//! Actions of lattice field theories and everything derived from them

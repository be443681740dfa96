//! Normalizing flows on lattice fields: distributions, bijections, networks, training

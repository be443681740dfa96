//! Dirac operators, iterative solvers and determinants

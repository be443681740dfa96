//! Command line application: strict configs, runs, tables

//! What comes inside the program: configurations and trained weights, found by the build script.

include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// A configuration of the Yukawa theory by the path of its file in the folder of configurations, without the ending.
pub(super) fn config(name: &str) -> Option<&'static str> {
    CONFIGS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// A configuration of QCD by the name of its file, without the ending.
pub(super) fn qcd_config(name: &str) -> Option<&'static str> {
    QCD_CONFIGS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// Trained weights by the name of their file, without the ending. Ensembles that have none are trained.
pub(super) fn weights(name: &str) -> Option<&'static [u8]> {
    WEIGHTS.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}

/// Trained weights of QCD by the name of their file, without the ending.
pub(super) fn qcd_weights(name: &str) -> Option<&'static [u8]> {
    QCD_WEIGHTS.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}

/// All trained weights with the names of their files.
#[cfg(test)]
pub(super) fn all_weights() -> &'static [(&'static str, &'static [u8])] {
    WEIGHTS
}

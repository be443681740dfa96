//! What surrounds a command: the device, Ctrl-C, and whether a person is watching.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use candle_core::Device;

/// Exit status of a run that was interrupted and can go on.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// Shared by everything one process does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Session {
    interrupted: Arc<AtomicBool>,
}

impl Session {
    /// A session that finishes the present step and saves on Ctrl-C or a polite kill; the second signal stops at once.
    ///
    /// # Errors
    /// When the system refuses the signal handler.
    pub(crate) fn with_signals() -> Result<Self> {
        let session = Self::default();
        let flag = session.interrupted.clone();
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(EXIT_INTERRUPTED));
            }
            note("\nfinishing this step, then saving (once more: stop at once)");
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(session)
    }

    /// Whether someone asked to stop.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }
}

/// Whether progress goes to a person's terminal.
pub(crate) fn terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Prints a line about the run to stderr; stdout is for results.
pub(crate) fn note(line: &str) {
    // Nobody may be listening any more; the run goes on.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints results to stdout.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end_matches('\n'))
        .and_then(|()| out.flush())
        .context("cannot print the results")
}

/// The device a configuration names.
///
/// # Errors
/// When it is not there, or this binary was built without support for it.
pub(crate) fn device(name: &str) -> Result<Device> {
    let Some(ordinal) = name.strip_prefix("cuda:") else { return Ok(Device::Cpu) };
    let ordinal: usize = ordinal.parse().with_context(|| format!("device {name}: no such device"))?;
    if !candle_core::utils::cuda_is_available() {
        bail!("device {name}: this binary was built without the feature `cuda`; allowed: cpu");
    }
    Device::new_cuda(ordinal).with_context(|| format!("device {name} cannot be used"))
}

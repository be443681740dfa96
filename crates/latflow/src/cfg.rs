//! `latflow cfg`: gauge configuration files checked, described and converted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use crate::io::gauge::{Extents, Format, GaugeFile, Label, Precision, ReadOptions, read_gauge, write_gauge};
use crate::session::{note, print};

/// What to do with gauge configuration files.
#[derive(Debug, Subcommand)]
pub(crate) enum Cfg {
    /// Verify structure, checksum, stated plaquette and link trace, and that all links are in SU(N).
    Check {
        /// Gauge configuration files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        dims: Dims,
    },
    /// Describe a file and its links.
    Info {
        /// Gauge configuration file.
        file: PathBuf,
        #[command(flatten)]
        input: Input,
    },
    /// Write a configuration in another format or precision.
    Convert {
        /// Gauge configuration file, of any format.
        input: PathBuf,
        /// The file to write: .ildg, .lime or .nersc.
        output: PathBuf,
        #[command(flatten)]
        how: Input,
        /// Format to write, ildg or nersc [default: by the extension].
        #[arg(long)]
        format: Option<Format>,
        /// Bits of a number, 32 or 64 [default: as in the input].
        #[arg(long, value_name = "BITS")]
        precision: Option<Precision>,
        /// Replace the output if it exists.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Dims {
    /// Extents, for files that do not state them.
    #[arg(long, value_name = "X,Y,Z,T", value_parser = extents)]
    dims: Option<Extents>,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Input {
    #[command(flatten)]
    dims: Dims,
    /// Read a file that contradicts itself as it is, with warnings.
    #[arg(long)]
    no_verify: bool,
}

fn extents(text: &str) -> Result<Extents, String> {
    let numbers: Option<Vec<usize>> =
        text.split(',').map(|l| l.trim().parse().ok().filter(|l| *l > 0)).collect();
    let four = numbers.and_then(|numbers| numbers.try_into().ok());
    four.ok_or_else(|| "expected four positive numbers, such as 8,8,8,16".to_owned())
}

impl Cfg {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Check { files, dims } => return check(&files, dims),
            Self::Info { file, input } => print(&describe(&file, &open(&file, input)?))?,
            Self::Convert { input, output, how, format, precision, force } => {
                convert(&input, &output, how, format, precision, force)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn open(file: &Path, input: Input) -> Result<GaugeFile> {
    let configuration = read_gauge(file, &ReadOptions { dims: input.dims.dims, verify: !input.no_verify })?;
    for warning in &configuration.warnings {
        note(&format!("warning: {}: {warning}", file.display()));
    }
    Ok(configuration)
}

/// One line for every good file, one error for every other.
fn check(files: &[PathBuf], dims: Dims) -> Result<ExitCode> {
    let mut bad = 0;
    for file in files {
        match open(file, Input { dims, no_verify: false }) {
            Ok(configuration) => print(&format!("{}: good: {}", file.display(), summary(&configuration)))?,
            Err(error) if files.len() == 1 => return Err(error),
            Err(error) => {
                bad += 1;
                note(&format!("error: {error:#}"));
            }
        }
    }
    if bad > 0 {
        bail!("{bad} of {} files are not good", files.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(file: &GaugeFile) -> String {
    let [x, y, z, t] = file.field.dims();
    format!(
        "{}, SU({}) on {x}×{y}×{z}×{t}, {} bit, checksum {}, plaquette {:.15}",
        file.format,
        file.field.n_colours(),
        file.precision.bits(),
        file.checksum,
        file.properties.plaquette
    )
}

fn describe(path: &Path, file: &GaugeFile) -> String {
    let [x, y, z, t] = file.field.dims();
    let properties = &file.properties;
    let mut lines = vec![
        ("file", path.display().to_string()),
        ("format", file.format.to_string()),
        ("extents", format!("{x}×{y}×{z}×{t} (x, y, z, t)")),
        ("group", format!("SU({})", file.field.n_colours())),
        ("precision", format!("{} bit", file.precision.bits())),
        ("checksum", file.checksum.to_string()),
        ("plaquette", format!("{:.15}", properties.plaquette)),
        ("link trace", format!("{:.15}", properties.link_trace)),
        ("unitarity", format!("{:.1e} (largest |U U† − 1|)", properties.unitarity.0)),
        ("determinant", format!("{:.1e} (largest |det U − 1|)", properties.determinant.0)),
    ];
    if let Some(label) = &file.label {
        lines.push(("ensemble", format!("{}, number {}", label.ensemble(), label.number())));
    }
    let head = if file.format == Format::Nersc { "header" } else { "records" };
    lines.push((head, String::new()));
    let mut text: String =
        lines.iter().map(|(name, value)| format!("{name:<12}{value}").trim_end().to_owned() + "\n").collect();
    let width = file.entries.iter().map(|entry| entry.name.len()).max().unwrap_or_default();
    for entry in &file.entries {
        text += &format!("  {:<width$}  {}\n", entry.name, entry.value);
    }
    text
}

fn convert(
    input: &Path,
    output: &Path,
    how: Input,
    format: Option<Format>,
    precision: Option<Precision>,
    force: bool,
) -> Result<()> {
    let format = format.or_else(|| Format::of_extension(output)).with_context(|| {
        format!(
            "{}: the extension says no format (.ildg, .lime, .nersc); name it with --format",
            output.display()
        )
    })?;
    if output.exists() && !force {
        bail!("{} exists; --force replaces it", output.display());
    }
    let file = open(input, how)?;
    let precision = precision.unwrap_or(file.precision);
    let label = file.label.clone().unwrap_or_else(|| Label::of_file(output));
    write_gauge(output, &file.field, format, precision, &label)?;
    // What counts is what will be read.
    let written = read_gauge(output, &ReadOptions { dims: None, verify: !how.no_verify })?;
    print(&format!("{}: written: {}", output.display(), summary(&written)))
}

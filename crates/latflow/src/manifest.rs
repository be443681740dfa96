//! Where a result comes from: `manifest.json` in every run directory.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::config::Config;

/// The version of this program, with the git revision it was built from.
pub(crate) const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("LATFLOW_GIT_REVISION"),
    ", uncommitted changes: ",
    env!("LATFLOW_GIT_DIRTY"),
    ")"
);

/// The manifest of a run that starts now.
pub(crate) fn manifest(command: &str, config: &Config) -> Value {
    json!({
        "program": "latflow",
        "version": env!("CARGO_PKG_VERSION"),
        "git_revision": env!("LATFLOW_GIT_REVISION"),
        "git_dirty": match env!("LATFLOW_GIT_DIRTY") { "true" => json!(true), "false" => json!(false), _ => Value::Null },
        "rustc": env!("LATFLOW_RUSTC"),
        "profile": env!("LATFLOW_PROFILE"),
        "target": env!("LATFLOW_TARGET"),
        "dependencies": env!("LATFLOW_DEPENDENCIES").split(", ").collect::<Vec<_>>(),
        "command": command,
        "arguments": std::env::args().skip(1).collect::<Vec<_>>(),
        "seed": config.seed,
        "config_hash": format!("{:016x}", config.hash()),
        "device": config.device,
        "threads": rayon::current_num_threads(),
        "host": host(),
        "os": std::env::consts::OS,
        "processor": processor(),
        "started": utc(SystemTime::now()),
    })
}

fn host() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = read.or_else(|| std::env::var("HOSTNAME").ok()).or_else(|| std::env::var("COMPUTERNAME").ok());
    name.map_or_else(|| "unknown".into(), |name| name.trim().to_owned())
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    model.unwrap_or(std::env::consts::ARCH).to_owned()
}

/// `2026-01-31T23:59:59Z`
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01 in the proleptic Gregorian calendar; years begin in March, so that leap days end them.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::utc;

    #[test]
    fn known_instants() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}

//! Runs that are killed, stopped or run out of room, and then go on: the same bytes as an undisturbed run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::common::{assert_same, contents, decimation_workspace, latflow, run, succeed, text, workspace};

/// Lines of metrics so far.
fn progress(run: &Path) -> usize {
    fs::read(run.join("metrics.jsonl")).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// Starts the arguments, waits for that many lines of metrics and acts on the process; false if it was done before.
fn disturb(arguments: &[&str], run: &Path, lines: usize, act: impl Fn(u32)) -> (bool, std::process::Output) {
    let child =
        latflow(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let pid = child.id();
    for _ in 0..6000 {
        if progress(run) >= lines || run.join("results.json").exists() {
            break;
        }
        sleep(Duration::from_millis(5));
    }
    let running = !run.join("results.json").exists();
    act(pid);
    (running, child.wait_with_output().expect("the process ends"))
}

fn signal(name: &'static str) -> impl Fn(u32) {
    move |pid| {
        let status = Command::new("kill").args([name, &pid.to_string()]).status().expect("kill exists");
        assert!(status.success() || name == "-KILL", "kill {name}");
    }
}

/// An undisturbed run, and one killed at several moments and resumed, must agree in every byte.
fn killed_runs_agree(
    command: &str,
    extra: &[&str],
    lines: &[usize],
    folder: &Path,
    config: &Path,
) -> PathBuf {
    named_killed_runs_agree(command, command, extra, lines, folder, config)
}

/// The same, in folders of another name.
pub(crate) fn named_killed_runs_agree(
    name: &str,
    command: &str,
    extra: &[&str],
    lines: &[usize],
    folder: &Path,
    config: &Path,
) -> PathBuf {
    let (plain, killed) = (folder.join(format!("{name}-plain")), folder.join(format!("{name}-killed")));
    succeed(&[&[command, text(config), "--out", text(&plain)], extra].concat());
    let mut first = [&[command, text(config), "--out", text(&killed)], extra].concat();
    let mut kills = 0;
    for target in lines {
        let (running, _) = disturb(&first, &killed, *target, signal("-KILL"));
        kills += usize::from(running);
        // The first kill may come before there is a run at all.
        if killed.join("config.toml").exists() {
            first = vec![command, "--resume", text(&killed)];
        }
    }
    assert!(kills >= 2, "the kills came too late to test anything");
    succeed(&[command, "--resume", text(&killed)]);
    assert_same(&plain, &killed);
    plain
}

#[test]
fn killed_training_and_sampling_continue_bit_by_bit() {
    let (folder, config) = workspace();
    let trained = killed_runs_agree("train", &[], &[1, 33, 70, 141], folder.path(), &config);
    let model = ["--model", text(&trained)];
    killed_runs_agree("sample", &model, &[1, 77, 151, 400], folder.path(), &config);
}

#[test]
fn killed_hmc_continues_bit_by_bit() {
    let (folder, config) = workspace();
    let short = ["--set", "hmc.trajectories=120"];
    killed_runs_agree("hmc", &short, &[3, 45, 90, 130], folder.path(), &config);
}

/// Every scheme: `(name, what makes it, when it is killed)`, training first where it has one of its own.
#[test]
fn killed_runs_of_every_scheme_continue_bit_by_bit() {
    let (folder, config) = decimation_workspace();
    let folder = folder.path();
    let marginal = folder.join("marginal");
    succeed(&["train", text(&config), "--out", text(&marginal), "--set", "train.steps=20"]);
    let mut models = vec![("marginal", marginal.clone())];
    let couplings = "kind={ couplings = { layers = 2, convs = 2, channels = 2 } }";
    let (gibbs, joint) = (format!("model.gibbs.{couplings}"), format!("model.joint.{couplings}"));
    let trainings: &[(&str, &[&str], bool)] = &[
        ("gibbs", &["model.scheme=gibbs"], true),
        ("restricted", &["model.scheme=gibbs", &gibbs, "train.estimator=total"], false),
        ("joint", &["model.scheme=joint"], true),
        ("coupled", &["model.scheme=joint", &joint], false),
    ];
    let short = ["train.steps=60", "train.batch=32"];
    for (name, sets, begins) in trainings {
        let mut extra: Vec<&str> = sets.iter().chain(&short).flat_map(|set| ["--set", set]).collect();
        if *begins {
            extra.extend(["--model", text(&marginal)]);
        }
        let folder_name = format!("train-{name}");
        let run = named_killed_runs_agree(&folder_name, "train", &extra, &[3, 24, 44], folder, &config);
        models.push((name, run));
    }
    let noise = "model.conditional.kind={ gaussian = { sigma = 1.0 } }";
    let samplings: &[(&str, &str, &[&str])] = &[
        ("marginal", "marginal", &[]),
        ("pseudo_marginal", "marginal", &["sample.method=pseudo_marginal", "sample.draws=2"]),
        ("noise", "marginal", &["sample.method=pseudo_marginal", "sample.draws=2", noise]),
        ("prior_refreshment", "marginal", &["sample.method=prior_refreshment", "sample.measure_every=3"]),
        ("prior_hmc", "marginal", &["sample.method=prior_hmc", "sample.integrator_steps=1"]),
        ("prior_langevin", "marginal", &["sample.method=prior_langevin"]),
        ("autoregressive", "marginal", &["model.scheme=autoregressive"]),
        ("gibbs", "gibbs", &["model.scheme=gibbs"]),
        ("restricted", "restricted", &["model.scheme=gibbs", &gibbs]),
        ("joint", "joint", &["model.scheme=joint"]),
        ("coupled", "coupled", &["model.scheme=joint", &joint]),
    ];
    let short = ["sample.steps=130", "sample.checkpoint_every=20"];
    for (name, model, sets) in samplings {
        let model = &models.iter().find(|(other, _)| other == model).expect("it was trained").1;
        let sets = sets.iter().chain(&short).flat_map(|set| ["--set", set]);
        let extra: Vec<&str> = sets.chain(["--model", text(model)]).collect();
        let name = format!("sample-{name}");
        named_killed_runs_agree(&name, "sample", &extra, &[2, 23, 41], folder, &config);
    }
}

#[test]
fn an_interrupted_run_saves_says_how_to_go_on_and_agrees() {
    let (folder, config) = workspace();
    let (plain, stopped) = (folder.path().join("plain"), folder.path().join("stopped"));
    succeed(&["train", text(&config), "--out", text(&plain)]);
    let arguments = ["train", text(&config), "--out", text(&stopped)];
    let (running, output) = disturb(&arguments, &stopped, 47, signal("-INT"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(running, "the interruption came too late");
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains(&format!("latflow train --resume {}", text(&stopped))), "{stderr}");
    let newest = fs::read_dir(stopped.join("checkpoint")).expect("checkpoints").count();
    assert!(newest >= 1);
    succeed(&["train", "--resume", text(&stopped)]);
    assert_same(&plain, &stopped);
}

#[test]
fn a_damaged_checkpoint_is_reported_and_the_previous_one_is_used() {
    let (folder, config) = workspace();
    let (plain, damaged) = (folder.path().join("plain"), folder.path().join("damaged"));
    succeed(&["train", text(&config), "--out", text(&plain)]);
    let arguments = ["train", text(&config), "--out", text(&damaged)];
    let (running, _) = disturb(&arguments, &damaged, 90, signal("-KILL"));
    assert!(running, "the kill came too late");
    let mut checkpoints: Vec<PathBuf> = fs::read_dir(damaged.join("checkpoint"))
        .expect("checkpoints")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_none())
        .collect();
    checkpoints.sort();
    let newest = checkpoints.last().expect("a checkpoint").join("tensors.safetensors");
    let bytes = fs::read(&newest).expect("tensors");
    fs::write(&newest, &bytes[..bytes.len() / 2]).expect("truncated");
    let output = run(&["train", "--resume", text(&damaged)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("warning: checkpoint") && stderr.contains("damaged"), "{stderr}");
    assert_same(&plain, &damaged);

    // With every checkpoint gone bad there is nothing to go on from, and that is an error, not a fresh start.
    fs::remove_file(damaged.join("results.json")).expect("as if unfinished");
    for entry in fs::read_dir(damaged.join("checkpoint")).expect("checkpoints") {
        fs::write(entry.expect("an entry").path().join("state.bin"), b"LATFLOW\0rubbish").expect("damaged");
    }
    let output = run(&["train", "--resume", text(&damaged)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("damaged"), "{stderr}");
}

/// A file size limit fails in the same place as a full disk, and needs no privileges.
#[test]
fn running_out_of_room_loses_nothing() {
    let (folder, config) = workspace();
    let (plain, full) = (folder.path().join("plain"), folder.path().join("full"));
    succeed(&["train", text(&config), "--out", text(&plain)]);
    let arguments = ["train", text(&config), "--out", text(&full)];
    let (running, _) = disturb(&arguments, &full, 50, signal("-KILL"));
    assert!(running, "the kill came too late");
    let checkpoints = || {
        let mut files = contents(&full.join("checkpoint"));
        files.retain(|name, _| !name.contains(".tmp"));
        files
    };
    let before = checkpoints();
    assert!(!before.is_empty());
    let program = env!("CARGO_BIN_EXE_latflow");
    let limited = format!("trap '' XFSZ; ulimit -f 8; exec '{program}' train --resume '{}'", text(&full));
    let output = Command::new("bash").args(["-c", &limited]).output().expect("bash exists");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{stderr}");
    assert!(stderr.contains("error: ") && stderr.contains("there is no room"), "{stderr}");
    assert_eq!(checkpoints(), before, "the previous checkpoints are intact");
    succeed(&["train", "--resume", text(&full)]);
    assert_same(&plain, &full);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (folder, config) = workspace();
    let runs: Vec<PathBuf> = ["1", "3"]
        .iter()
        .map(|threads| {
            let out = folder.path().join(threads);
            let mut command =
                latflow(&["train", text(&config), "--out", text(&out), "--set", "train.steps=60"]);
            let output = command.env("RAYON_NUM_THREADS", threads).output().expect("the binary starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            out
        })
        .collect();
    assert_same(&runs[0], &runs[1]);
}

/// A part of the reproduction, killed in each kind of stage: minutes, so only with RUN_SLOW_TESTS=1. The training of a Gibbs
/// model begins with the weights of the marginal one, which is trained for that.
#[test]
fn a_killed_reproduction_continues() {
    if std::env::var_os("RUN_SLOW_TESTS").is_none() {
        eprintln!("skipped: set RUN_SLOW_TESTS=1");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (plain, killed) = (folder.path().join("plain"), folder.path().join("killed"));
    let part =
        ["repro-yukawa", "--scale", "smoke", "--coupling", "0.1", "--models", "ours", "--scheme", "gibbs"];
    succeed(&[&part[..], &["--out", text(&plain)]].concat());
    let mut arguments = [&part[..], &["--out", text(&killed)]].concat();
    let stages = ["ours/marginal/train", "ours/gibbs/train", "ours/gibbs/sample"];
    for (stage, lines) in stages.iter().zip([2, 2, 40]) {
        let (running, _) = disturb(&arguments, &killed.join("g0.1").join(stage), lines, signal("-KILL"));
        assert!(running, "the kill came too late");
        arguments = vec!["repro-yukawa", "--resume", text(&killed)];
    }
    let table = succeed(&["repro-yukawa", "--resume", text(&killed)]);
    assert!(table.contains("Table III, our models") && table.contains("Gibbs"), "{table}");
    for stage in stages {
        let run = |root: &Path| root.join("g0.1").join(stage);
        assert_same(&run(&plain), &run(&killed));
    }
    for file in ["report.md", "report.html", "results.json"] {
        assert!(killed.join(file).exists(), "{file}");
    }
    let again = run(&["repro-yukawa", "--scale", "smoke", "--out", text(&killed)]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("--resume"));
}

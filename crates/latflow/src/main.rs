//! `latflow`: sampling, training and measuring from the command line.

fn main() -> std::process::ExitCode {
    latflow::main()
}

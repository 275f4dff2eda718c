//! `snug`: the native client without a window. It joins a room with devices, files or test pictures.
//! It holds no rule of a call: it reads options, feeds the engine, and prints what happens.

mod choice;
mod devices;
mod doctor;
mod input;
mod join;
mod lines;
mod printable;
mod state;
mod tiles;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Video calls from the command line.
#[derive(Parser)]
#[command(version, about, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Enter a room and stay until told to leave (Ctrl-C, --duration, or the `leave` command with --json)
    #[command(after_help = lines::COMMANDS)]
    Join(Box<join::Options>),
    /// List cameras, microphones and speakers
    Devices(devices::Options),
    /// Look at a relay step by step, and say what to mend
    #[command(after_help = doctor::EXIT_CODES)]
    Doctor(doctor::Options),
}

/// What is logged unless SNUG_LOG says otherwise. The sound server's client takes each goodbye of its own for an error.
const LOGGED: &str = "error,pulseaudio=off";

const EXIT_CODES: &str = "\
Exit codes:
  0  the call was left as asked
  2  the command line, the link or a file given with it is wrong
  3  the password is missing or wrong
  4  the relay cannot be reached, or its certificate is not valid
  5  the room did not take us in, or removed us
  6  the machine lacks something (threads, sound, a camera)";

fn main() -> ExitCode {
    // Logs go to standard error, since standard output belongs to events.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("SNUG_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED)))
        .with_writer(std::io::stderr)
        .init();
    match Arguments::parse().command {
        Command::Join(options) => join::run(*options),
        Command::Devices(options) => devices::run(&options),
        Command::Doctor(options) => doctor::run(options),
    }
}

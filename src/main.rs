//! The `tts` program.

fn main() -> std::process::ExitCode {
    tts::cli::main()
}

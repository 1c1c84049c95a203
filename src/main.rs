//! The `tts` program.

mod cli;

/// The reader of parquet files panics at some damage, which is caught and told in a sentence: the panic
/// itself is not the user's.
fn hide_caught_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|at| at.file().contains("parquet")) {
            usual(info);
        }
    }));
}

fn main() -> std::process::ExitCode {
    hide_caught_panics();
    cli::main()
}

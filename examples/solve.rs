//! Solves one problem with the model that the library carries: `cargo run --release --example solve`.

use tts::strategies::Preset;
use tts::{LoadOptions, Loaded, Runner, Settings};

#[tokio::main]
async fn main() -> Result<(), tts::Error> {
    let problem = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20.".to_owned());
    let model = Loaded::open(&LoadOptions::default(), &mut |_| ())?;
    let settings = Settings {
        strategy: Preset::named("deepconf-low")?,
        traces: 64,
        ..Settings::default()
    };
    let solved = Runner::new(model, settings)?.solve_text(&problem).await?;
    #[allow(clippy::print_stdout)]
    {
        println!("{}", solved.answer.as_deref().unwrap_or("no answer"));
        println!("{:#}", solved.to_json());
    }
    Ok(())
}

//! Solves one problem with the model that the library carries: `cargo run --release --example solve`.

use tts::Tts;

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), tts::Error> {
    let problem = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20.".to_owned());
    let tts = Tts::open("bundled")
        .strategy("deepconf-low")
        .traces(64)
        .build()
        .await?;
    let answer = tts.solve(problem).await?;
    println!("{answer}");
    println!("{:#}", answer.to_json());
    Ok(())
}

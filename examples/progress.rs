//! Watches a problem while it runs: `cargo run --release --example progress`. Dropping the stream would
//! cancel the problem's traces.

use futures::StreamExt;
use tts::{Event, Tts};

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), tts::Error> {
    let tts = Tts::open("bundled").traces(256).build().await?;
    let mut live = tts
        .solve("Find the remainder when 7^53 is divided by 23.")
        .stream();
    while let Some(event) = live.next().await {
        match event? {
            Event::Progress(now) => println!(
                "{} live, {} tokens, leading {:?}",
                now.live,
                now.tokens.total() + now.live_tokens,
                now.leading
            ),
            Event::TraceEnded {
                trace,
                finish,
                answer,
                ..
            } => println!("trace {trace} ended ({finish:?}): {answer:?}"),
            Event::Decided { answer, .. } => println!("answer {answer:?}"),
            _ => {}
        }
    }
    Ok(())
}

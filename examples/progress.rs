//! Watches a problem while it runs, and stops it by dropping it: `cargo run --release --example progress`.

use tokio::sync::broadcast;
use tts::evals::data::Problem;
use tts::run::Event;
use tts::{LoadOptions, Loaded, Runner, Settings, Watch};

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), tts::Error> {
    let runner = Runner::new(
        Loaded::open(&LoadOptions::default(), &mut |_| ())?,
        Settings {
            traces: 256,
            ..Settings::default()
        },
    )?;
    let problem = Problem {
        id: "one".to_owned(),
        problem: "Find the remainder when 7^53 is divided by 23.".to_owned(),
        answer: None,
        extra: serde_json::Map::new(),
    };
    let prepared = runner.prepare(&problem)?;

    let (events, mut watching) = broadcast::channel(256);
    let solving = runner.solve(
        &prepared,
        Watch {
            events: Some(events),
            ..Watch::default()
        },
    );
    tokio::pin!(solving);
    loop {
        tokio::select! {
            solved = &mut solving => {
                println!("answer {:?}", solved?.answer);
                return Ok(());
            }
            event = watching.recv() => match event {
                Ok(Event::Progress(now)) => println!("{} live, {} tokens, leading {:?}", now.live, now.tokens.total() + now.live_tokens, now.leading),
                Ok(Event::TraceEnded { trace, finish, answer, .. }) => println!("trace {trace} ended ({finish:?}): {answer:?}"),
                // a reader that is late loses the oldest events; the run does not wait for it
                Ok(_) | Err(_) => {}
            },
        }
        // returning here, or dropping `solving` in any other way, would cancel the problem's traces
    }
}

//! Writes problems as JSONL: `generate --count N --seed S --split train|dev|heldout [--family NAME]...`

use std::io::Write;
use tts_evals::generate::{Family, Split, families, family, set};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut count, mut seed, mut split) = (10, 0, Split::Train);
    let mut chosen: Vec<&Family> = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--count" => count = value.parse()?,
            "--seed" => seed = value.parse()?,
            "--split" => split = Split::named(&value).ok_or(format!("no split {value}"))?,
            "--family" => chosen.push(family(&value).ok_or(format!("no family {value}"))?),
            _ => return Err(format!("unknown flag {flag}").into()),
        }
    }
    if chosen.is_empty() {
        chosen = families().iter().collect();
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for problem in set(&chosen, seed, split, count) {
        serde_json::to_writer(&mut out, &problem)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

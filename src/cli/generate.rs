//! `tts generate`.

use crate::evals::generate::{self, Split};
use anyhow::{anyhow, bail};
use clap::Args;

use super::printer::Printer;
use super::{ExitStatus, nearest};

#[derive(Args)]
pub(crate) struct GenerateArgs {
    /// Number of problems, no text twice
    #[arg(long, value_name = "N", default_value_t = 10)]
    count: usize,
    /// Seed of the problems
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Families, as a,b, or all
    #[arg(long, value_name = "NAME|all", default_value = "all", value_delimiter = ',')]
    family: Vec<String>,
    /// Which operands: heldout and dev hold none that the bundled model was trained on
    #[arg(long, value_name = "heldout|dev|train", default_value = "heldout", value_parser = split)]
    split: Split,
}

fn split(name: &str) -> Result<Split, String> {
    Split::named(name).ok_or_else(|| "it is heldout, dev or train".to_owned())
}

pub(crate) fn run(args: &GenerateArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    if args.count == 0 {
        bail!("--count 0 leaves nothing to write: it must be at least 1");
    }
    let names = || generate::families().iter().map(|f| f.name);
    let families = if args.family.iter().any(|f| f == "all") {
        generate::families().iter().collect()
    } else {
        let find = |name: &String| {
            generate::family(name).ok_or_else(|| {
                let tip = nearest(name, names()).unwrap_or("all");
                anyhow!(
                    "there is no family `{name}`; did you mean `{tip}`? (known: {})",
                    names().collect::<Vec<_>>().join(", ")
                )
            })
        };
        args.family.iter().map(find).collect::<Result<Vec<_>, _>>()?
    };
    let problems = generate::set(&families, args.seed, args.split, args.count);
    for problem in &problems {
        printer.object(problem)?;
    }
    if problems.len() < args.count {
        printer.warn(&format!(
            "there are no more than {} different problems of this kind",
            problems.len()
        ));
    }
    Ok(ExitStatus::Done)
}

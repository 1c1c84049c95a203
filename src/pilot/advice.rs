//! What to use, and whether that is more than a guess.

use tts_evals::stats::{WithinAuroc, clopper_pearson};

use super::scores::LOWEST;
use super::trials::lost;
use super::{LEVEL, MIXED, ScoreTrial, Trial, Verdict};

/// Problems beyond which counting how many more would do is of no use.
const MOST: u64 = 100_000;

/// What a pilot recommends.
pub(super) struct Advice<'a> {
    pub(super) trial: &'a Trial,
    /// The cheapest that lost no more than the margin on these problems, where plain majority is recommended because
    /// on others it may lose more.
    candidate: Option<&'a Trial>,
    /// Whether all that were tried are clearly worse than plain majority.
    others_lose: bool,
}

/// Where some are right clearly more often than plain majority, by more than the margin, the cheapest of those within
/// the margin of the best; else the cheapest of those that save any tokens and may lose no more than the margin, on other problems too; else one
/// with a smaller gain that is clear; plain majority otherwise. What reads confidence must have grounds to.
pub(super) fn advise(trials: &[Trial], margin: f64, confidence_knows: bool) -> Advice<'_> {
    let plain = trials
        .iter()
        .find(|t| t.strategy == "majority")
        .expect("plain majority is always tried");
    let others = || trials.iter().filter(|t| t.strategy != "majority");
    let holds = |t: &&Trial| {
        let loses = t.difference.is_some_and(|d| -d <= margin);
        loses && (confidence_knows || !t.reads_confidence)
    };
    let passes = |t: &&Trial| t.may_lose.is_some_and(|share| share <= margin);
    let better = |t: &&Trial| t.difference_interval.is_some_and(|i| i.low > 0.0);
    let gain = |t: &Trial| t.difference.unwrap_or_default();
    let most = trials.iter().filter(better).map(gain).fold(0.0, f64::max);
    // trials stand by their cost
    let best = trials.iter().filter(better).find(|t| gain(t) >= most - margin);
    // one that saves nothing must gain
    let cheaper = || others().filter(|t| t.tokens < plain.tokens);
    let sound = || cheaper().find(|t| holds(t) && passes(t));
    // what gains more than others may lose is worth more than what is cheap
    let trial = best
        .filter(|_| most > margin)
        .or_else(sound)
        .or(best)
        .unwrap_or(plain);
    Advice {
        trial,
        candidate: cheaper().find(holds).filter(|_| trial.strategy == "majority"),
        others_lose: others().all(|t| t.difference_interval.is_some_and(|i| i.high < 0.0)),
    }
}

pub(super) fn verdict(
    advice: &Advice<'_>,
    scores: &[ScoreTrial],
    graded: usize,
    mixed: usize,
    problems: usize,
    margin: f64,
) -> Verdict {
    let not_enough = |why: String, problems_needed| Verdict::NotEnough { why, problems_needed };
    if graded == 0 {
        return not_enough(
            "no gold answer is known, so nothing can be said about what a strategy loses; name the problem \
             set"
            .to_owned(),
            None,
        );
    }
    let n = graded as u64;
    let trial = advice.trial;
    if trial.strategy == "majority" {
        if let Some(candidate) = advice.candidate {
            return not_enough(risk(candidate, n, margin), needed_to_pass(candidate, n, margin));
        }
        if advice.others_lose {
            return Verdict::Enough;
        }
        let lowest = scores.iter().find(|s| s.score == LOWEST).or(scores.first());
        return match lowest {
            Some(s) if s.knows => not_enough(
                "every cheaper strategy lost more than the margin on these problems".to_owned(),
                None,
            ),
            Some(s) => {
                let needed = needed_for_auroc(&s.auroc, mixed, problems);
                not_enough(
                    format!(
                        "{mixed} of {problems} problems have right and wrong traces, too few to say that \
                         confidence tells them apart"
                    ),
                    needed,
                )
            }
            None => not_enough(
                format!(
                    "{mixed} of {problems} problems have right and wrong traces: what a score knows can be \
                     seen on no others"
                ),
                None,
            ),
        };
    }
    // it is right more often, whatever it loses on the way; or what it may lose is little
    Verdict::Enough
}

/// What a strategy would save, what it lost and what it may lose, in words.
fn risk(trial: &Trial, graded: u64, margin: f64) -> String {
    let percent = |x: f64| format!("{:.0}%", x * 100.0);
    format!(
        "{} with --slots {} would take {} of its tokens, but it lost {:.1} of {graded} problems that plain majority \
         solves, and on others that may be as many as {} of them, more than the {} that are allowed",
        trial.strategy,
        trial.slots,
        percent(trial.share),
        trial.lost.unwrap_or_default(),
        percent(trial.may_lose.unwrap_or(1.0)),
        percent(margin)
    )
}

/// Problems on which a strategy that goes on as on these `n` would be shown to lose no more than the margin.
fn needed_to_pass(trial: &Trial, n: u64, margin: f64) -> Option<u64> {
    let rate = trial.lost? / n as f64;
    (1..).map(|i| n + i * 5).take_while(|n| *n <= MOST).find(|n| {
        let lost = lost(rate * *n as f64);
        clopper_pearson(lost, *n, LEVEL).is_ok_and(|i| i.high <= margin)
    })
}

/// Problems that would narrow the interval of an AUROC until it leaves chance out, if they are like these.
fn needed_for_auroc(auroc: &WithinAuroc, mixed: usize, problems: usize) -> Option<u64> {
    let (sd, above) = (auroc.sd?, auroc.mean - 0.5);
    if above <= 0.0 || mixed == 0 {
        return None;
    }
    let wanted = (1.96 * sd / above).powi(2).max(MIXED as f64) * problems as f64 / mixed as f64;
    let needed = wanted.ceil() as u64;
    (needed <= MOST).then_some(needed.max(problems as u64 + 1))
}

#[cfg(test)]
mod tests {
    use tts_evals::stats::Interval;

    use super::*;
    use crate::run::Slots;

    fn trial(strategy: &str, tokens: f64, difference: f64, may_lose: f64) -> Trial {
        Trial {
            strategy: strategy.to_owned(),
            slots: Slots::fixed(8),
            window: None,
            reads_confidence: false,
            accuracy: Some(0.5 + difference),
            difference: Some(difference),
            difference_interval: Some(Interval {
                low: difference - 0.1,
                high: difference + 0.1,
            }),
            lost: Some(0.0),
            may_lose: Some(may_lose),
            tokens,
            tokens_interval: None,
            share: 1.0,
            ticks: tokens,
        }
    }

    #[test]
    fn what_passes_is_named_before_what_is_cheap_and_a_clear_gain_before_both() {
        let plain = trial("majority", 100.0, 0.0, 0.0);
        let cheap = trial("best-of-infinity", 10.0, -0.02, 0.06);
        let passes = trial("adaptive-consistency", 30.0, -0.003, 0.03);
        let gains = trial("deepconf-low", 40.0, 0.21, 0.12);
        let name = |trials: &[Trial]| {
            let advice = advise(trials, 0.05, false);
            let verdict = verdict(&advice, &[], 60, 40, 60, 0.05);
            (advice.trial.strategy.clone(), verdict == Verdict::Enough)
        };
        let named = |strategy: &str, enough| (strategy.to_owned(), enough);
        assert_eq!(
            name(&[cheap.clone(), passes.clone(), plain.clone()]),
            named("adaptive-consistency", true)
        );
        assert_eq!(
            name(&[cheap.clone(), passes, gains.clone(), plain.clone()]),
            named("deepconf-low", true)
        );
        // as good a gain at a lower price
        let dear = trial("deepconf-high", 90.0, 0.24, 0.12);
        assert_eq!(name(&[gains, dear, plain.clone()]), named("deepconf-low", true));
        // one that costs the same must be better, not only no worse
        let dear = trial("rpc", 100.0, 0.004, 0.02);
        assert_eq!(
            advise(&[dear, plain.clone()], 0.05, true).trial.strategy,
            "majority"
        );
        // what is cheap on these problems is not recommended for others
        let trials = [cheap, plain.clone()];
        let advice = advise(&trials, 0.05, false);
        assert_eq!(advice.trial.strategy, "majority");
        let Verdict::NotEnough { why, problems_needed } = verdict(&advice, &[], 60, 40, 60, 0.05) else {
            panic!("more problems would do");
        };
        assert!(
            why.starts_with("best-of-infinity with --slots 8 would take 100% of its tokens, but it lost"),
            "{why}"
        );
        assert_eq!(problems_needed, Some(75));
        let mut loses = trial("esc", 20.0, -0.2, 0.3);
        assert_eq!(name(&[loses.clone(), plain.clone()]), named("majority", true));
        loses.difference_interval = Some(Interval {
            low: -0.45,
            high: 0.05,
        });
        assert_eq!(name(&[loses, plain]), named("majority", false));
    }
}

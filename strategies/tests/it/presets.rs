//! Presets: names, files, overrides, and what is said about wrong ones.

use tts_strategies::{Consensus, Overrides, Preset, Value, VoteKind, Window, describe, names, source};

#[test]
fn the_shipped_presets_are_what_they_say() {
    assert_eq!(
        names().take(5).collect::<Vec<_>>(),
        [
            "majority",
            "weighted",
            "tail-entropy",
            "deepconf-low",
            "deepconf-high"
        ]
    );
    for name in names() {
        let preset = Preset::named(name).unwrap();
        assert_eq!(preset.build().name(), name);
        assert!(describe(name).is_some_and(|d| !d.is_empty()));
        let copied = Preset::from_toml(source(name).unwrap(), &format!("/tmp/{name}.toml")).unwrap();
        assert_eq!(copied, preset);
        assert_eq!(
            Preset::from_toml(&preset.to_toml(), &format!("{name}.toml")).unwrap(),
            preset,
            "written and read back"
        );
    }
    let mut low = Preset::named("deepconf-low").unwrap();
    for (name, value) in [
        ("warmup", Value::from(16)),
        ("keep_top", 0.10.into()),
        ("min_votes", 4.into()),
        ("window", Window::Auto.into()),
        ("consensus", Consensus::At(0.95).into()),
        ("vote", VoteKind::MinWeighted.into()),
        ("count_truncated", false.into()),
    ] {
        assert_eq!(low.value(name), Some(value), "{name}");
    }
    let high = Preset::named("deepconf-high").unwrap();
    low.apply(&Overrides::default().with("keep_top", 0.90)).unwrap();
    (low.name, low.description) = (high.name.clone(), high.description.clone());
    assert_eq!(low, high, "they differ in the share that is kept alone");
    let json = serde_json::to_value(Preset::named("deepconf-low").unwrap()).unwrap();
    assert_eq!(json["kind"], "deepconf-online");
    assert_eq!(
        (&json["settings"]["window"], &json["settings"]["consensus"]),
        (&"auto".into(), &0.95.into())
    );
}

#[test]
fn an_unknown_name_brings_the_nearest() {
    for (typed, nearest) in [
        ("deepconf-lo", "deepconf-low"),
        ("majorty", "majority"),
        ("deepconf_high", "deepconf-high"),
        ("best-of-m", "best-of-n"),
    ] {
        let e = Preset::named(typed).unwrap_err().to_string();
        assert!(e.contains(&format!("did you mean \"{nearest}\"")), "{e}");
    }
}

#[test]
fn a_file_names_its_line() {
    let said = |text: &str| Preset::from_toml(text, "my/mine.toml").unwrap_err().to_string();
    let low = source("deepconf-low").unwrap();
    let e = said(&low.replace("warmup = 16", "warm_up = 16"));
    assert!(
        e.starts_with("my/mine.toml, line 6: unknown field `warm_up`")
            && e.contains("`warmup`")
            && !e.contains('\n'),
        "{e}"
    );
    let e = said(&low.replace("deepconf-online", "deepconf"));
    assert!(e.contains("line 2") && e.contains("`deepconf-online`"), "{e}");
    assert!(said(&low.replace("\"auto\" ", "\"wide\" ")).contains("a number of tokens or \"auto\""));
    assert!(said(&low.replace("0.95", "\"never\"")).contains("\"off\""));
    assert!(said(&low.replace("warmup = 16", "warmup = -3")).contains("line 6"));
    assert!(said("kind = \"majority\"").contains("settings"));
    assert!(said("kind = ").contains("line 1"));
    assert!(said("kind = \"majority\"\nextra = 1\n[settings]").contains("extra"));
    let e = said(&low.replace("0.10", "10.0"));
    assert!(
        e.contains("keep_top of the strategy \"mine\" must be above 0 and at most 1") && e.contains("not 10"),
        "{e}"
    );
    // Fields left out have their defaults; the name is the file's.
    let mine = Preset::from_toml(
        "kind = \"deepconf-online\"\n[settings]\nwindow = 64\nconsensus = \"off\"\n",
        "dir\\mine.toml",
    )
    .unwrap();
    assert_eq!((mine.name.as_str(), mine.kind()), ("mine", "deepconf-online"));
    assert_eq!(mine.value("window"), Some(Window::Fixed(64).into()));
    assert_eq!(mine.value("consensus"), Some(Consensus::Off.into()));
    assert_eq!(mine.value("warmup"), Some(16.into()));
}

#[test]
fn overrides_are_taken_or_refused_in_a_sentence() {
    let mut low = Preset::named("deepconf-low").unwrap();
    let before = low.clone();
    for (o, said) in [
        (Overrides::default().with("keep_top", 0.0), "keep_top"),
        (Overrides::default().with("keep_top", f64::NAN), "keep_top"),
        (Overrides::default().with("consensus", 0.5), "consensus"),
        (Overrides::default().with("consensus", 1.01), "consensus"),
        (Overrides::default().with("warmup", 0), "warmup"),
        (Overrides::default().with("window", Window::Fixed(0)), "window"),
        (Overrides::default().with("min_votes", 0), "min_votes"),
    ] {
        let e = low
            .apply(&o.with("vote", VoteKind::Majority))
            .unwrap_err()
            .to_string();
        assert!(
            e.starts_with(&format!("{said} of the strategy \"deepconf-low\" must be")),
            "{e}"
        );
        assert_eq!(low, before, "refused, so nothing changed");
    }
    low.apply(
        &Overrides::default()
            .with("consensus", Consensus::Off)
            .with("window", "32".parse::<Window>().unwrap()),
    )
    .unwrap();
    assert_eq!(low.value("consensus"), Some(Consensus::Off.into()));
    assert_eq!(low.value("window"), Some(Window::Fixed(32).into()));
    let e = low
        .apply(&Overrides::default().with("warmup", 0.5))
        .unwrap_err()
        .to_string();
    assert_eq!(
        e,
        "warmup of the strategy \"deepconf-low\" must be at least 1, not 0.5"
    );
    let e = low
        .apply(&Overrides::default().with("vote", true))
        .unwrap_err()
        .to_string();
    assert!(
        e.starts_with("vote of the strategy \"deepconf-low\" must be one of majority, mean-weighted,"),
        "{e}"
    );

    let mut majority = Preset::named("majority").unwrap();
    let e = majority
        .apply(&Overrides::default().with("keep_top", 0.1))
        .unwrap_err()
        .to_string();
    assert_eq!(
        e,
        "the strategy \"majority\" has no setting keep_top; it has window, count_truncated (keep_top is one of deepconf-low, deepconf-high, \
         deepconf-offline, continuation)"
    );
    assert!("3.5".parse::<Window>().is_err() && "on".parse::<Consensus>().is_err());
    assert_eq!("off".parse(), Ok(Consensus::Off));
}

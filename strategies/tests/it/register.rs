//! The register: what follows from a strategy's row, and rows that are refused.

use tts_strategies::{
    Consensus, Limits, Overrides, Preset, Range, Register, Setting, Strategy, StrategyRow, Value, ValueType,
    VoteKind,
};

/// Majority under another name.
fn majority(name: &str) -> Box<dyn Strategy> {
    Preset::from_toml("kind = \"majority\"\n[settings]\n", name)
        .unwrap()
        .build()
}

const PATIENCE: Setting = Setting::new("patience", Value::Count(3), "N", "Traces to wait for")
    .within(Range::at_least(2.0, "at least 2"))
    .called("wait");

static PATIENT: StrategyRow = StrategyRow {
    kind: "patient",
    description: "a majority that waits",
    citation: "arXiv 2203.11171",
    settings: &[
        PATIENCE,
        Setting::new("hopeful", Value::Switch(false), "on|off", "Whether it hopes"),
    ],
    presets: &[],
    ends_early: false,
    build: |name, values| {
        assert_eq!(
            values.get::<bool>("hopeful"),
            Some(true),
            "a strategy reads its settings by their type"
        );
        majority(&format!("{name} {}", values.get::<usize>("patience").unwrap()))
    },
};

#[test]
fn a_row_is_all_that_a_strategy_needs() {
    let register = Register::shipped().with(&PATIENT).unwrap();
    assert_eq!(register.names().last(), Some("patient"));
    let mut preset = register.preset("patient").unwrap();
    assert_eq!(
        (preset.kind(), preset.description.as_str()),
        ("patient", "a majority that waits")
    );
    assert_eq!(preset.value("patience"), Some(Value::Count(3)));
    preset
        .apply(&Overrides::default().with("patience", 8).with("hopeful", true))
        .unwrap();
    let mut strategy = preset.build();
    assert_eq!(strategy.name(), "patient 8");
    assert_eq!(
        strategy.begin(&Limits {
            traces: 5,
            slots: 5,
            max_tokens: 9
        }),
        5
    );

    let text = "kind = \"patient\"\n[settings]\npatience = 4\nhopeful = true\n";
    assert_eq!(
        register.read(text, "a/calm.toml").unwrap().build().name(),
        "calm 4"
    );
    let again = register.read(&preset.to_toml(), "patient.toml").unwrap();
    assert_eq!(again.to_toml(), preset.to_toml(), "written and read back");
    let json = serde_json::to_value(&preset).unwrap();
    let settings = serde_json::json!({ "patience": 8, "hopeful": true });
    assert_eq!((&json["kind"], &json["settings"]), (&"patient".into(), &settings));

    let said = |text: &str| register.read(text, "calm.toml").unwrap_err().to_string();
    assert_eq!(
        said(&text.replace('4', "1")),
        "patience of the strategy \"calm\" must be at least 2, not 1"
    );
    assert_eq!(
        said(&text.replace("patience", "patients")),
        "calm.toml, line 3: unknown field `patients`, expected one of `patience`, `hopeful`"
    );
    assert!(said(&text.replace("true", "3")).starts_with("calm.toml, line 4: invalid type: integer `3`"));
    let unknown = register.preset("patien").unwrap_err().to_string();
    assert!(unknown.contains("did you mean \"patient\"?"), "{unknown}");
    assert!(
        Preset::named("patient").is_err(),
        "the shipped register is as it was"
    );

    let new: Vec<_> = register
        .settings()
        .into_iter()
        .filter(|s| s.name == "patience")
        .collect();
    assert_eq!(
        (new.len(), new[0].field(), new[0].value_type()),
        (1, "wait", ValueType::Count)
    );
}

#[test]
fn shipped_rows_are_sound() {
    let mut register = Register::default();
    for row in Register::shipped().rows() {
        // presets parse, defaults are in range, shared settings mean the same
        register = register.with(row).unwrap();
        assert!(
            !row.description.is_empty() && row.citation.starts_with("arXiv "),
            "{}",
            row.kind
        );
        let defaults = Preset::new(row);
        assert_eq!(defaults.build().name(), row.kind);
        let all = format!("kind = \"{}\"\n[settings]\n", row.kind);
        let mut empty = Preset::from_toml(&all, row.kind).unwrap();
        empty.description.clone_from(&defaults.description);
        assert_eq!(empty, defaults, "what a file leaves out has its default");
        for setting in row.settings {
            assert!(
                !setting.help.is_empty() && !setting.placeholder.is_empty(),
                "{}",
                setting.name
            );
            // a command line, JSON and TOML say the same
            let default = setting.default;
            if setting.value_type() != ValueType::Switch {
                assert_eq!(setting.value_type().parse(&default.to_string()), Ok(default));
            }
            let json = serde_json::to_value(default).unwrap();
            let read = serde::de::DeserializeSeed::deserialize(setting.value_type(), json).unwrap();
            assert_eq!(read, default, "{}", setting.name);
        }
        for name in row.names() {
            let source = Register::shipped().source(name).unwrap();
            for setting in row.settings {
                assert!(
                    source.contains(setting.name),
                    "presets/{name}.toml leaves out {}",
                    setting.name
                );
            }
        }
    }
    assert_eq!(
        register.names().collect::<Vec<_>>(),
        tts_strategies::names().collect::<Vec<_>>()
    );
}

/// The files in presets/ are those that rows name.
#[test]
fn every_preset_file_belongs_to_a_row() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/presets");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut named: Vec<String> = tts_strategies::names().map(|n| format!("{n}.toml")).collect();
    files.sort();
    named.sort();
    assert_eq!(files, named);
}

#[test]
fn settings_stand_once_and_in_the_order_of_their_rows() {
    let names: Vec<_> = Register::shipped().settings().iter().map(|s| s.name).collect();
    let first = [
        "warmup",
        "window",
        "keep_top",
        "consensus",
        "min_votes",
        "vote",
        "statistic",
    ];
    assert_eq!(names[..7], first);
    assert_eq!(names.last(), Some(&"count_truncated"));
    for row in Register::shipped().rows() {
        let places: Vec<_> = row
            .settings
            .iter()
            .map(|s| names.iter().position(|n| *n == s.name))
            .collect();
        assert!(places.is_sorted(), "{}", row.kind);
    }
}

#[test]
fn a_row_that_would_be_ambiguous_is_refused() {
    static TWIN: StrategyRow = StrategyRow {
        kind: "esc",
        ..PATIENT
    };
    static NAMESAKE: StrategyRow = StrategyRow {
        presets: &[("borda", "kind = \"patient\"\n[settings]\n")],
        ..PATIENT
    };
    static BROKEN: StrategyRow = StrategyRow {
        presets: &[("calm", "kind = \"patient\"\n")],
        ..PATIENT
    };
    static UNSOUND: StrategyRow = StrategyRow {
        settings: &[Setting {
            default: Value::Count(1),
            ..PATIENCE
        }],
        ..PATIENT
    };
    static OTHER: StrategyRow = StrategyRow {
        settings: &[Setting {
            name: "batch",
            ..PATIENCE
        }],
        ..PATIENT
    };
    static FLAG: StrategyRow = StrategyRow {
        settings: &[Setting {
            called: Some("agree"),
            ..PATIENCE
        }],
        ..PATIENT
    };
    static TWICE: StrategyRow = StrategyRow {
        settings: &[PATIENCE, PATIENCE],
        ..PATIENT
    };
    for (row, why) in [
        (&TWIN, "there is a strategy of this kind"),
        (&NAMESAKE, "there is a strategy named \"borda\""),
        (&BROKEN, "missing field `settings`"),
        (&UNSOUND, "the default of patience must be at least 2, not 1"),
        (&OTHER, "another setting batch does not mean the same"),
        (&FLAG, "another setting patience does not mean the same"),
        (&TWICE, "another setting patience does not mean the same"),
    ] {
        let refused = Register::shipped().with(row).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn values_are_read_from_the_words_of_a_command_line() {
    assert_eq!(
        ValueType::Vote.parse("min-weighted"),
        Ok(VoteKind::MinWeighted.into())
    );
    let said = ValueType::Vote.parse("min").unwrap_err();
    assert!(
        said.starts_with("it is one of majority, mean-weighted,"),
        "{said}"
    );
    assert_eq!(ValueType::Consensus.parse("off"), Ok(Consensus::Off.into()));
    assert_eq!(
        ValueType::Count.parse("-1").unwrap_err(),
        "invalid digit found in string"
    );
    assert_eq!(ValueType::Number.parse("x").unwrap_err(), "invalid float literal");
}

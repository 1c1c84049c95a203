//! Whatever is sent, the parsers answer: with settings, or with a refusal that is the client's fault.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};
use tts_model::overrides::SAMPLING_SETTINGS;
use tts_strategies::{
    Overrides, Preset, Range, Register, Setting, StrategyRow, Value as SettingValue, ValueType,
};

use super::auth::{Auth, Keys};
use super::error::ApiError;
use super::fields::UnreadFields;
use super::model_name::by_name;
use super::request::{ChatRequest, Endpoint, read_request, response_options};
use super::settings::overrides;
use super::state::AppState;
use super::{Options, Origins, UnknownFields};
use crate::loaded::{LoadOptions, Loaded};
use crate::solver::{Settings, Solver};

/// Every field that is known but the settings of strategies and of sampling, and some that are not.
const FIELDS: &[&str] = &[
    "model",
    "messages",
    "prompt",
    "stream",
    "stream_options",
    "progress",
    "n",
    "stop",
    "seed",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "max_tokens",
    "max_completion_tokens",
    "max_total_tokens",
    "time_limit",
    "thinking_budget",
    "ignore_eos",
    "loop_stop",
    "strategy",
    "traces",
    "slots",
    "instruction",
    "chat_template_kwargs",
    "reasoning_effort",
    "echo",
    "best_of",
    "suffix",
    "response_format",
    "tools",
    "tool_choice",
    "user",
    "metadata",
    "nonsense",
    "",
];

static STATE: LazyLock<AppState> = LazyLock::new(|| {
    let loaded = Loaded::open(&LoadOptions::default(), &mut |_| ()).unwrap();
    let options = Options {
        address: "127.0.0.1:0".parse().unwrap(),
        name: "bundled".to_owned(),
        ..Options::default()
    };
    let settings = Settings {
        threads: Some(1),
        memory: Some(64 << 20),
        ..Settings::default()
    };
    AppState::open(Solver::local(loaded, settings).unwrap(), &options).unwrap()
});

/// As a route reads a body.
fn read(body: &[u8], endpoint: Endpoint) -> Result<ChatRequest, ApiError> {
    let mut fields = UnreadFields::read(body)?;
    fields.digest(&["stream"]);
    response_options(&mut fields, endpoint)?;
    read_request(fields, endpoint, &STATE)
}

/// A request that was read is one that can run; one that was not says why.
fn sound(read: Result<ChatRequest, ApiError>) -> Result<(), TestCaseError> {
    match read {
        Ok(request) => {
            prop_assert!((1..=STATE.limits.choices).contains(&request.runs()));
            prop_assert!((1..=STATE.limits.traces).contains(&request.solver.settings().traces));
            let context = request.solver.source().capabilities().context.unwrap();
            for prompt in &request.prompts {
                prop_assert!(!prompt.prompt.ids.is_empty() && prompt.max_tokens > 0);
                prop_assert!(prompt.prompt.ids.len() + prompt.max_tokens <= context);
                prop_assert!(request.solver.setup(prompt, Vec::new(), Vec::new()).id == prompt.id);
            }
        }
        Err(error) => {
            prop_assert!(error.status.is_client_error(), "{error:?}");
            let message = error.body().error.message;
            prop_assert!(!message.is_empty() && message.len() < 2000, "{message}");
        }
    }
    Ok(())
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3i64..40).prop_map(Value::from),
        (-3.0..3.0).prop_map(|x: f64| json!(x)),
        any::<f64>().prop_map(|x| Number::from_f64(x).map_or(Value::Null, Value::Number)),
    ]
}

/// Words that mean something somewhere.
const WORDS: &[&str] = &[
    "off",
    "auto",
    "majority",
    "deepconf-low",
    "user",
    "text",
    "bundled",
    "bundled@esc-8",
    "min-weighted",
    "\u{0}",
    "",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number(),
        prop::sample::select(WORDS).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(any::<String>(), inner.clone(), 0..4).prop_map(|m| Value::Object(Map::from_iter(m))),
            (any::<String>(), inner).prop_map(
                |(role, content)| json!({ "role": role, "type": "text", "content": content, "text": "1" })
            ),
        ]
    })
}

fn request() -> impl Strategy<Value = Value> {
    let settings = Register::shipped().settings().into_iter().map(Setting::field);
    let settings = settings.chain(SAMPLING_SETTINGS.iter().map(|s| s.name));
    let fields: Vec<_> = FIELDS.iter().copied().chain(settings).collect();
    let fields = vec((prop::sample::select(fields), value()), 0..4);
    (any::<bool>(), fields).prop_map(|(chat, fields)| {
        let mut request = if chat {
            json!({ "messages": [{ "role": "user", "content": "1 + 1" }] })
        } else {
            json!({ "prompt": "1 + 1" })
        };
        for (name, value) in fields {
            request[name] = value;
        }
        request
    })
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
        sound(read(&bytes, Endpoint::Chat))?;
        sound(read(&bytes, Endpoint::Completion))?;
    }

    #[test]
    fn any_object_is_answered(request in request()) {
        let body = request.to_string();
        sound(read(body.as_bytes(), Endpoint::Chat))?;
        sound(read(body.as_bytes(), Endpoint::Completion))?;
    }

    #[test]
    fn a_request_that_is_damaged_is_answered(
        request in request(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut body = request.to_string().into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        if cut {
            body.truncate(at);
        }
        sound(read(&body, Endpoint::Chat))?;
        sound(read(&body, Endpoint::Completion))?;
    }

    #[test]
    fn any_text_is_a_prompt_or_refused(
        text in any::<String>(),
        role in prop::sample::select(&["system", "user", "assistant", "tool"][..]),
    ) {
        let request = json!({
            "messages": [{ "role": "user", "content": "1" }, { "role": role, "content": text }]
        });
        sound(read(request.to_string().as_bytes(), Endpoint::Chat))?;
        sound(read(json!({ "prompt": text }).to_string().as_bytes(), Endpoint::Completion))?;
    }

    #[test]
    fn any_model_name_is_known_or_not(name in any::<String>(), rest in "[a-z0-9@-]{0,24}") {
        for name in [name.clone(), format!("bundled{name}"), format!("bundled@{rest}")] {
            if let Err(error) = by_name(&name, "bundled") {
                prop_assert_eq!(error.status.as_u16(), 404);
            }
        }
    }

    #[test]
    fn any_headers_pass_the_gate_or_do_not(
        values in vec(vec(any::<u8>(), 0..40), 3),
        keyed in any::<bool>(),
        get in any::<bool>(),
    ) {
        let mut headers = HeaderMap::new();
        for (name, bytes) in ["host", "origin", "authorization"].into_iter().zip(&values) {
            if let Ok(value) = HeaderValue::from_bytes(bytes) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let keys = if keyed { Keys::parse("a-key-of-some-length").unwrap() } else { Keys::default() };
        let auth = Auth { keys, address: "127.0.0.1:1".parse().unwrap(), origins: Origins::default() };
        let method = if get { Method::GET } else { Method::POST };
        // no name of this machine and no key is made of such bytes
        prop_assert!(auth.check(&method, &Uri::from_static("/"), &headers, false).is_err());
    }
}

#[test]
fn a_digest_is_of_what_is_asked() {
    let digest = |text: &str| UnreadFields::read(text.as_bytes()).unwrap().digest(&["stream"]);
    let one = digest("{\"a\": 1, \"b\": [2, 3.0]}");
    assert_eq!(
        one,
        digest("{ \"b\":[2,3.0], \"stream\": true, \"a\":1, \"c\": null }")
    );
    assert_ne!(one, digest("{\"a\": 2, \"b\": [2, 3.0]}"));
    assert_ne!(one, digest("{\"a\": 1}"));
}

#[test]
fn every_setting_of_every_strategy_has_a_field() {
    for row in Register::shipped().rows() {
        for setting in row.settings {
            let body = json!({ setting.field(): setting.default });
            let mut fields = UnreadFields::read(body.to_string().as_bytes()).unwrap();
            let given = overrides(&mut fields, Register::shipped()).unwrap();
            assert_eq!(given, Overrides::default().with(setting.name, setting.default));
            fields.finish(UnknownFields::Refuse).unwrap();
            let wrong = json!({ setting.field(): [] });
            let mut fields = UnreadFields::read(wrong.to_string().as_bytes()).unwrap();
            let refused = overrides(&mut fields, Register::shipped()).unwrap_err();
            let expected = match setting.value_type() {
                ValueType::Count => "a whole number of at least 1",
                other => other.expected(),
            };
            let said = format!("`{}` must be {expected}; an array was given", setting.field());
            assert_eq!(refused.body().error.message, said);
        }
    }
}

#[test]
fn a_row_brings_its_fields() {
    static PATIENT: StrategyRow = StrategyRow {
        kind: "patient",
        description: "a majority that waits",
        citation: "arXiv 2203.11171",
        settings: &[
            Setting::new("patience", SettingValue::Count(3), "N", "Traces to wait for")
                .within(Range::at_least(0.0, "at least 0"))
                .called("wait"),
        ],
        presets: &[],
        ends_early: false,
        build: |_, _| Preset::named("majority").unwrap().build(),
    };
    let register = Register::shipped().with(&PATIENT).unwrap();
    let read = || UnreadFields::read(b"{\"wait\": 0, \"consensus\": \"off\"}").unwrap();
    let mut fields = read();
    let given = overrides(&mut fields, &register).unwrap();
    fields.finish(UnknownFields::Refuse).unwrap();
    let names: Vec<_> = given.iter().map(|g| g.0).collect();
    assert_eq!(names, ["consensus", "patience"]);
    let mut preset = Preset::new(&PATIENT);
    preset.apply(&Overrides::default().with("patience", 0)).unwrap();
    assert_eq!(preset.value("patience"), Some(SettingValue::Count(0)));
    let mut fields = read();
    overrides(&mut fields, Register::shipped()).unwrap();
    let refused = fields
        .finish(UnknownFields::Refuse)
        .unwrap_err()
        .body()
        .error
        .message
        .to_string();
    assert!(refused.contains("there is no field `wait`"), "{refused}");
}

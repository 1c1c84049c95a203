//! Templates, tokenizers and prompts that are made to take all there is: each gets one sentence.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::*;
use super::templates::{render, talk, with_template};
use super::{byte_fallback, golden};

/// The sentence that a template ends with, on the small stack that a thread of a server has.
fn refused(source: &str) -> String {
    let started = Instant::now();
    let said = std::thread::scope(|scope| {
        let small = std::thread::Builder::new().stack_size(512 << 10);
        let thread = small.spawn_scoped(scope, || render(source, &talk()));
        thread.unwrap().join().unwrap()
    });
    let shown: String = source.chars().take(80).collect();
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{shown}: {:?}",
        started.elapsed()
    );
    match said {
        Ok(text) => panic!("{shown}: {} bytes", text.len()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn templates_that_nest_without_end_are_refused() {
    for source in [
        format!("{{{{ 1{} }}}}", "+1".repeat(32_000)),
        format!("{{{{ 'a'{} }}}}", "~'a'".repeat(32_000)),
        format!("{{{{ {} x }}}}", "not ".repeat(32_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(32_000)),
        format!("{{{{ x{} }}}}", " and x".repeat(32_000)),
        format!("{{{{ x{} }}}}", " if x else x".repeat(32_000)),
        format!("{{{{ x{} }}}}", "|string".repeat(20_000)),
        format!("{{{{ x{} }}}}", ".a".repeat(32_000)),
        format!("{{{{ x{} }}}}", "()".repeat(32_000)),
        format!("{{{{ x{} }}}}", "[0]".repeat(32_000)),
        format!("{{{{ x{} }}}}", " is defined".repeat(20_000)),
        format!("{{{{ {}{} }}}}", "[".repeat(32_000), "]".repeat(32_000)),
        format!("{{% if x %}}{}{{% endif %}}", "{% elif 0 %}".repeat(8_000)),
        format!("{}x", "{% if 1 %}".repeat(8_000)),
        "x".repeat(1 << 20),
    ] {
        let said = refused(&source);
        assert!(said.contains("does not compile") && said.len() < 400, "{said}");
    }
    // what is just within its bounds compiles on the stack that it has
    for source in [
        format!("{{{{ 1{} }}}}", "+1".repeat(2_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(4_000)),
        format!("{{{{ {} 1 }}}}", "not ".repeat(4_000)),
        format!(
            "{{% if x %}}{}{{% else %}}y{{% endif %}}",
            "{% elif 0 %}".repeat(990)
        ),
    ] {
        assert!(!render(&source, &talk()).unwrap().is_empty());
    }
}

#[test]
fn values_that_hold_themselves_or_nest_too_deep_are_refused() {
    let deep = "{% set ns = namespace(x=[]) %}{% for i in range(99000) %}{% set ns.x = [ns.x] %}{% endfor %}";
    for (source, what) in [
        (
            "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
            "a namespace into a namespace",
        ),
        (
            "{% set ns = namespace() %}{% set ns.x = [{'a': ns}] %}{{ ns|string }}",
            "a namespace into a namespace",
        ),
        (
            "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{{ a == b }}",
            "a namespace into a namespace",
        ),
        (&format!("{deep}{{{{ ns.x }}}}"), "nested more than 100 deep"),
        (
            &deep.replace("[ns.x]", "{'a': ns.x}"),
            "nested more than 100 deep",
        ),
        (&deep.replace("[ns.x]", "[ns.x] * 1"), "nested more than 100 deep"),
        (
            &deep.replace("[ns.x]", "[ns.x] + [1]"),
            "nested more than 100 deep",
        ),
        (
            "{% macro f(x, n) %}{% if n %}{{ f([x], n - 1) }}{% else %}{{ x }}{% endif %}{% endmacro %}{{ \
             f(1, 5000) }}",
            "recursion limit exceeded",
        ),
    ] {
        let said = refused(source);
        assert!(said.contains(what), "{source}: {said}");
    }
}

#[test]
fn templates_that_run_or_write_without_end_are_stopped() {
    let twice = |body: &str| format!("{{% set ns = namespace(x='ab', l=[1]) %}}{}", body.repeat(60));
    let loops = |body: &str| {
        format!(
            "{{% for i in range(100000) %}}{{% for j in range(100000) %}}{body}{{% endfor %}}{{% endfor %}}"
        )
    };
    for source in [
        loops(""),
        loops("{{ i }}"),
        loops("some text that is written again and again"),
        loops(&"long ".repeat(2000)),
        format!("{{% set x %}}{}{{% endset %}}", loops(&"long ".repeat(2000))),
        format!(
            "{{% macro f() %}}{}{{% endmacro %}}{{{{ f() }}}}",
            loops("{{ messages }}")
        ),
        "{{ 'a\nb'|indent(2000000000) }}".to_owned(),
        "{{ 'a\nb'|indent(width=2000000000) }}".to_owned(),
        "{{ 'a'|center(2000000000) }}{{ 'x' }}".to_owned(),
        "{{ 'a'.ljust(2000000000) }}".to_owned(),
        "{{ 'a'.zfill(2000000000) }}".to_owned(),
        "{{ '%2000000000d' % 1 }}".to_owned(),
        "{{ '%*d' % (2000000000, 1) }}".to_owned(),
        "{{ '{:>2000000000}'.format(1) }}".to_owned(),
        "{{ '%2000000000d'|format(1) }}".to_owned(),
        "{{ 'x' * 2000000000 }}".to_owned(),
        "{{ 'x' * 100000000 }}".to_owned(),
        "{{ ([0] * 100000000)|list }}".to_owned(),
        "{{ range(100000)|join('x' * 1000000) }}".to_owned(),
        "{{ ('x' * 1000000).join(range(100000)) }}".to_owned(),
        "{{ [1]|batch(2000000000, 'x')|list }}".to_owned(),
        "{{ [1, [2, [3]]]|tojson(indent=2000000000) }}".to_owned(),
        twice("{% set ns.x = ns.x ~ ns.x %}"),
        twice("{% set ns.x = ns.x + ns.x %}"),
        twice("{% set ns.x = ns.x|replace('a', 'aaaaaaaaaa') %}"),
        twice("{% set ns.x = ns.x.replace('a', 'aaaaaaaaaa') %}"),
        twice("{% set ns.l = ns.l + ns.l %}"),
        twice("{% set ns.l = [ns.l, ns.l] %}"),
        twice("{% set ns.l = {'a': ns.l, 'b': ns.l} %}"),
        twice("{% set x %}{{ x }}{{ x }}{{ messages }}{% endset %}"),
        "{% macro f(x, n) %}{% if n %}{{ f(x ~ x, n - 1) }}{% else %}{{ x }}{% endif %}{% endmacro %}{{ \
         f('ab', 60) }}"
            .to_owned(),
        format!(
            "{{% set x = 'ab' %}}{}{}",
            "{% for x in [x ~ x] %}".repeat(60),
            "{% endfor %}".repeat(60)
        ),
        format!(
            "{{% set x = 'ab' %}}{}{}",
            "{% with x = x ~ x %}".repeat(60),
            "{% endwith %}".repeat(60)
        ),
    ] {
        let said = refused(&source);
        assert!(said.len() < 500, "{source}: {said}");
    }
}

/// The golden tokenizer with something else in it.
fn tokenizer(change: impl Fn(&mut Value)) -> Result<Prompter, PromptError> {
    let text = std::fs::read_to_string(golden("case-gqa/tokenizer.json")).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    change(&mut json);
    Prompter::from_parts(&Parts {
        origin: "m",
        tokenizer_json: &json.to_string(),
        ..Parts::default()
    })
}

#[test]
fn a_panic_of_the_tokenizer_is_a_sentence() {
    let normalizer = json!({"type": "Replace", "pattern": {"Regex": "a*"}, "content": "aa"});
    let prompter = tokenizer(|json| json["normalizer"] = normalizer.clone()).unwrap();
    let said = prompter.encode_raw("banana").err().unwrap().to_string();
    assert!(
        said.starts_with("the tokenizer of m (tokenizer.json) cannot encode the prompt: "),
        "{said}"
    );
}

#[test]
fn normalizers_and_decoders_that_make_gigabytes_are_refused() {
    let replace = |old: &str, new: usize| json!({"type": "Replace", "pattern": {"String": old}, "content": "a".repeat(new)});
    let sequence =
        |kind: &str, list: &str, step: Value| json!({"type": kind, list: [step.clone(), step.clone(), step]});
    for step in [
        json!({"type": "Prepend", "prepend": "a".repeat(1 << 20)}),
        replace("a", 1 << 20),
        sequence("Sequence", "normalizers", replace("a", 20)),
        json!({"type": "Replace", "pattern": {"Regex": "x*"}, "content": "a".repeat(1 << 20)}),
    ] {
        let said = tokenizer(|json| json["normalizer"] = step.clone())
            .err()
            .unwrap()
            .to_string();
        assert!(
            said.contains("normalizer can make a text") && said.len() < 300,
            "{said}"
        );
    }
    let decoder = sequence("Sequence", "decoders", replace("a", 20));
    let said = tokenizer(|json| json["decoder"] = decoder.clone())
        .err()
        .unwrap()
        .to_string();
    assert!(said.contains("decoder can make a text"), "{said}");
    // what models have
    for step in [
        Value::Null,
        json!({"type": "NFC"}),
        json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}),
        json!({"type": "Sequence", "normalizers": [
            {"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}),
    ] {
        tokenizer(|json| json["normalizer"] = step.clone()).unwrap();
    }
}

#[test]
fn dropout_is_off() {
    let text = "Let us compute 17 * 23 step by step, and then the remainder.";
    let plain = tokenizer(|_| ()).unwrap().encode_raw(text).unwrap();
    let dropped = tokenizer(|json| json["model"]["dropout"] = json!(0.9)).unwrap();
    for _ in 0..8 {
        assert_eq!(dropped.encode_raw(text).unwrap(), plain);
    }
}

#[test]
fn a_prompt_that_is_far_too_long_is_refused_before_it_is_encoded() {
    let mut prompter = with_template("{{ messages[0].content }}").unwrap();
    prompter.limit_tokens(5000);
    prompter.limit_tokens(100_000);
    let long = "1+1 ".repeat(2 << 20);
    let started = Instant::now();
    let said = prompter.encode_raw(&long).err().unwrap();
    assert!(matches!(said, PromptError::TooLong { most: 5000 }), "{said}");
    let turns = [Message::user(long.as_str())];
    let said = prompter
        .render(&turns, &RenderOptions::default())
        .err()
        .unwrap()
        .to_string();
    assert_eq!(
        said,
        "the prompt has more than 5000 tokens, which is the most that is read here; give a shorter one"
    );
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    // without a byte-level decoder its beginning is looked at
    let mut other = byte_fallback();
    other.limit_tokens(5000);
    let said = other.encode_raw(&"é".repeat(1 << 20)).err().unwrap();
    assert!(matches!(said, PromptError::TooLong { .. }), "{said}");
    // what is a little longer is encoded, for the caller to count; what fits is what it always was
    let words = "1+1 ".repeat(20_000);
    let tokens = with_template("x").unwrap().encode_raw(&words).unwrap();
    for most in [tokens.len(), tokens.len() - 1] {
        let mut prompter = with_template("x").unwrap();
        prompter.limit_tokens(most);
        assert_eq!(prompter.encode_raw(&words).unwrap(), tokens);
    }
}

/// A copy of a golden folder in which one file is something else.
#[cfg(unix)]
#[test]
fn side_files_are_regular_and_bounded() {
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "generation_config.json",
        "config.json",
        "tts.json",
    ] {
        for kind in ["pipe", "device", "folder"] {
            let folder = tempfile::tempdir().unwrap();
            for file in [
                "config.json",
                "generation_config.json",
                "tokenizer.json",
                "tokenizer_config.json",
            ] {
                std::fs::copy(golden("case-gqa").join(file), folder.path().join(file)).unwrap();
            }
            let path = folder.path().join(name);
            let _ = std::fs::remove_file(&path);
            match kind {
                "folder" => std::fs::create_dir(&path).unwrap(),
                "device" => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
                _ => assert!(
                    std::process::Command::new("mkfifo")
                        .arg(&path)
                        .status()
                        .unwrap()
                        .success()
                ),
            }
            let said = Prompter::from_folder(folder.path()).err().unwrap().to_string();
            assert!(
                said.contains(name) && said.contains(&format!("it is a {kind}")),
                "{said}"
            );
        }
    }
}

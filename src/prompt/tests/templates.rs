//! Chat templates: what they may use, where they come from, what they get wrong.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::*;
use super::golden;

/// A prompter over the golden tokenizer with this template.
pub(super) fn with_template(source: &str) -> Result<Prompter, PromptError> {
    let json = std::fs::read_to_string(golden("case-gqa/tokenizer.json")).unwrap();
    Prompter::from_parts(&Parts {
        origin: "test",
        tokenizer_json: &json,
        tokenizer_config: Some(
            r#"{"bos_token": {"content": "<|begin_of_text|>", "lstrip": false}, "eos_token": "<|im_end|>", "pad_token": null}"#,
        ),
        chat_template: Some(source),
        ..Parts::default()
    })
}

fn render(source: &str, turns: &[Message]) -> Result<String, PromptError> {
    Ok(with_template(source)?
        .render(turns, &RenderOptions::default())?
        .text)
}

pub(super) fn talk() -> Vec<Message> {
    vec![
        Message::system("Be brief."),
        Message::user(" Sum \n"),
        Message::assistant("<think>x</think>\n\n7"),
    ]
}

#[test]
fn templates_are_rendered_as_jinja2_does_it() {
    // Left: a template; right: what transformers' environment (trim_blocks, lstrip_blocks) makes of it.
    let cases = [
        (
            "{% for m in messages %}\n  {% if m.role == 'user' %}\n{{ m.content.strip() }}\n  {% endif \
             %}\n{% endfor %}\n",
            "Sum\n",
        ),
        (
            "{{ bos_token }}{{ eos_token }}|{{ pad_token }}|{{ unknown }}",
            "<|begin_of_text|><|im_end|>||",
        ),
        (
            "{{ messages[-1]['content'].split('</think>')[-1].lstrip('\\n') }}",
            "7",
        ),
        (
            "{%- for m in messages[::-1] %}{{ loop.index0 }}{{ m.role[0] }}{% endfor %}",
            "0a1u2s",
        ),
        (
            "{%- set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + m.content|length %}{% \
             endfor %}{{ ns.n }}",
            "34",
        ),
        (
            "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m['role'] }} {% endfor \
             %}",
            "system user ",
        ),
        (
            "{% for m in messages %}\n{%- if m.role == 'assistant' %}\n  {% generation %}\n{{ m.content \
             }}\n  {% endgeneration %}\n{% endif %}\n{% endfor %}",
            "<think>x</think>\n\n7\n",
        ),
        ("A\n{%- generation -%}\n  B\n{%- endgeneration -%}\nC", "ABC"),
        (
            "{{ messages[1] | tojson }}",
            "{\"role\": \"user\", \"content\": \" Sum \\n\"}",
        ),
        (
            "{{ '<é\u{1}\"' | tojson }}{{ [] | tojson(indent=2) }}{{ [1, true, none] | tojson(indent=2) }}",
            "\"<é\\u0001\\\"\"[][\n  1,\n  true,\n  null\n]",
        ),
        (
            "{{ 'é\u{1f680}' | tojson(ensure_ascii=true) }}{{ {'b': 1.5, 'a': 2} | tojson(sort_keys=true, \
             separators=(',', ':')) }}",
            "\"\\u00e9\\ud83d\\ude80\"{\"a\":2,\"b\":1.5}",
        ),
        (
            "{{ tools is none }}{{ documents is none }}{% if tools %}x{% endif %}{{ custom is defined }}",
            "TrueTrueFalse",
        ),
        (
            "{% macro turn(m) %}[{{ m.role }}]{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}",
            "[system][user][assistant]",
        ),
        (
            "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first | trim \
             }}",
            "Sum",
        ),
        (
            "{{ 'a' if messages[0].role == 'system' else 'b' }}{{ messages[0].get('x', 'none') }}{{ \
             'ab'.startswith('a') and 'b' in 'ab' }}",
            "anoneTrue",
        ),
        ("{{- '\\n' ~ messages|length ~ '%d' -}}  ", "\n3%d"),
    ];
    for (source, text) in cases {
        match render(source, &talk()) {
            Ok(rendered) => assert_eq!(rendered, text, "{source}"),
            Err(error) => panic!("{source}: {error}"),
        }
    }
}

#[test]
fn templates_know_the_date_and_further_variables() {
    let prompter =
        with_template("{{ strftime_now('%Y') }}{{ enable_thinking }}{{ nested.list[1] }}").unwrap();
    let variables = BTreeMap::from([
        ("enable_thinking".to_owned(), json!(false)),
        ("nested".to_owned(), json!({"list": [1, "two", 3.5]})),
    ]);
    let options = RenderOptions {
        variables,
        ..RenderOptions::default()
    };
    let text = prompter.render(&talk(), &options).unwrap().text;
    assert!(text.starts_with("20") && text.ends_with("Falsetwo"), "{text}");
}

#[test]
fn broken_and_refusing_templates_get_a_sentence() {
    let error = |source: &str| render(source, &talk()).err().unwrap();
    assert!(matches!(
        error("{% for m in messages %}"),
        PromptError::TemplateSyntax { .. }
    ));
    assert!(matches!(
        error("{{ messages.nothing.more }}"),
        PromptError::TemplateFailed { .. }
    ));
    assert!(matches!(
        error("{{ nowhere() }}"),
        PromptError::TemplateFailed { .. }
    ));
    assert!(matches!(error("{# nothing #}"), PromptError::EmptyPrompt { .. }));
    let PromptError::TemplateRefused { message, .. } =
        error("{{ raise_exception('System role not supported') }}")
    else {
        panic!("not refused")
    };
    assert_eq!(message, "System role not supported");
    let refused = error("{% macro f() %}{{ raise_exception('no') }}{% endmacro %}\n{{ f() }}").to_string();
    assert_eq!(
        refused,
        "the chat template of test (chat_template.jinja) refuses these messages: no"
    );
    let syntax = error("a\n{% oops %}").to_string();
    assert!(
        syntax.contains("line 2") && syntax.contains("--chat-template"),
        "{syntax}"
    );
}

#[test]
fn template_sources_rank_and_can_be_overridden() {
    let json = std::fs::read_to_string(golden("case-gqa/tokenizer.json")).unwrap();
    let build = |config: &str, file: Option<&str>| {
        Prompter::from_parts(&Parts {
            origin: "m",
            tokenizer_json: &json,
            tokenizer_config: Some(config),
            chat_template: file,
            ..Parts::default()
        })
    };
    let key = r#"{"chat_template": "key"}"#;
    let list =
        r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
    assert_eq!(build(key, None).unwrap().chat_template(), Some("key"));
    assert_eq!(build(key, Some("file")).unwrap().chat_template(), Some("file"));
    assert_eq!(build(list, None).unwrap().chat_template(), Some("d"));
    let ambiguous = list.replace("default", "rag");
    let sentence = build(&ambiguous, None).err().unwrap().to_string();
    assert!(sentence.contains("tool_use, rag"), "{sentence}");
    let sentence = build(r#"{"chat_template": 7}"#, None).err().unwrap().to_string();
    assert!(sentence.contains("`chat_template` is 7"), "{sentence}");
    let mut bare = build("{}", None).unwrap();
    assert!(!bare.has_chat_template());
    let none = bare.render(&talk(), &RenderOptions::default()).err().unwrap();
    assert!(none.to_string().contains("--chat-template"), "{none}");
    let before = bare.digest();
    bare.set_chat_template("{{ messages[1].content }}", "--chat-template")
        .unwrap();
    assert_eq!(
        bare.render(&talk(), &RenderOptions::default()).unwrap().text,
        " Sum \n"
    );
    assert_ne!(bare.digest(), before);
    assert!(bare.set_chat_template("{% if %}", "--chat-template").is_err());
    assert!(bare.has_chat_template());
}

#[test]
fn a_prompt_says_whether_it_opened_the_reasoning() {
    let turns = [Message::user("What does <think> mean?")];
    let ends = |source: &str| {
        with_template(source)
            .unwrap()
            .render(&turns, &RenderOptions::default())
            .unwrap()
            .ends_in_think
    };
    let head = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    assert!(!ends(&format!(
        "{head}{{% if add_generation_prompt %}}assistant: {{% endif %}}"
    )));
    assert!(ends(&format!(
        "{head}{{% if add_generation_prompt %}}assistant: <think>\n{{% endif %}}"
    )));
    assert!(!ends(&format!(
        "{head}{{% if add_generation_prompt %}}assistant: <think>\n\n</think>\n\n{{% endif %}}"
    )));
    assert!(ends(&format!(
        "{head}{{% if add_generation_prompt %}}assistant: <think>\nWell, {{% endif %}}"
    )));
    // A template that ends another way without the generation prompt.
    assert!(ends(
        "{% if add_generation_prompt %}assistant: <think>\n{% else %}end{% endif %}"
    ));
    let prompter = with_template(&format!("{head}<think>")).unwrap();
    let options = RenderOptions {
        add_generation_prompt: false,
        ..RenderOptions::default()
    };
    assert!(!prompter.render(&turns, &options).unwrap().ends_in_think);
}

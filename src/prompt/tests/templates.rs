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

pub(super) fn render(source: &str, turns: &[Message]) -> Result<String, PromptError> {
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

#[test]
fn dictionaries_keep_the_order_in_which_they_were_written() {
    for (source, text) in [
        ("{{ {'z': 1, 'a': 2} | tojson }}", r#"{"z": 1, "a": 2}"#),
        ("{{ dict(z=1, a=2) | tojson }}", r#"{"z": 1, "a": 2}"#),
        (
            "{% for k in {'z': 1, 'a': 2, 'm': 3} %}{{ k }}{% endfor %}",
            "zam",
        ),
        (
            "{% for k, v in {'z': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}",
            "z1a2",
        ),
        (
            "{% for k, v in {'z': 1, 'a': 2}|items %}{{ k }}{{ v }}{% endfor %}",
            "z1a2",
        ),
        (
            "{{ {'z': 1, 'a': 2}.keys()|join }}{{ {'z': 1, 'a': 2}.values()|join }}",
            "za12",
        ),
        (
            "{{ {'z': 1, 'a': 2}|first }}{{ {'z': 1, 'a': 2}|list|last }}",
            "za",
        ),
        (
            "{{ {'z': 1, 'a': {'y': 1, 'b': messages[0].role}} }}",
            "{'z': 1, 'a': {'y': 1, 'b': 'system'}}",
        ),
        ("{{ {'z': 1, 'a': 2, 'z': 3} | tojson }}", r#"{"z": 3, "a": 2}"#),
        ("{{ {'z': 1, 'a': 2} | dictsort }}", "[('a', 2), ('z', 1)]"),
        (
            "{{ {'z': 1, 'a': 2} | tojson(sort_keys=true) }}",
            r#"{"a": 2, "z": 1}"#,
        ),
    ] {
        assert_eq!(render(source, &talk()).unwrap(), text, "{source}");
    }
}

#[test]
fn an_error_names_what_is_undefined() {
    let json = std::fs::read_to_string(golden("case-gqa/tokenizer.json")).unwrap();
    for (source, name) in [
        (
            "{{ bos_token + messages[0].content }}",
            "`bos_token` is undefined",
        ),
        (
            "{{ messages[0].content + eos_token }}",
            "`eos_token` is undefined",
        ),
        (
            "{{ messages[0].reasoning.strip() }}",
            "`messages[0].reasoning` is undefined",
        ),
        (
            "{% for m in messages %}\n{{ m.tool_calls[0].name }}{% endfor %}",
            "tool_calls",
        ),
        ("{% set x = missing %}{{ x + 'a' }}", "missing"),
        ("{{ nowhere() }}", "nowhere"),
    ] {
        let prompter = Prompter::from_parts(&Parts {
            tokenizer_json: &json,
            chat_template: Some(source),
            ..Parts::default()
        });
        let said = prompter.unwrap().render(&talk(), &RenderOptions::default());
        let said = said.err().unwrap().to_string();
        assert!(said.contains(name) && said.contains("(line "), "{source}: {said}");
    }
}

#[test]
fn methods_and_filters_of_python_and_jinja_are_there() {
    // Right: what Python 3 and Jinja2 3.1 write.
    for (source, text) in [
        (
            "{{ 'a,b,c'.rsplit(',', 1) }}{{ ' a  b c '.rsplit() }}{{ 'a b c'.rsplit(None, 1) }}",
            "['a,b', 'c']['a', 'b', 'c']['a b', 'c']",
        ),
        (
            "{{ 'a=b=c'.partition('=') }}{{ 'a=b=c'.rpartition('=') }}",
            "('a', '=', 'b=c')('a=b', '=', 'c')",
        ),
        (
            "{{ 'abc'.partition('x') }}{{ 'abc'.rpartition('x') }}",
            "('abc', '', '')('', '', 'abc')",
        ),
        (
            "{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}{{ 'abc'.removeprefix('x') }}",
            "bcababc",
        ),
        (
            "{{ '7'.zfill(3) }}{{ '-7'.zfill(4) }}{{ '1234'.zfill(3) }}",
            "007-0071234",
        ),
        (
            "{{ 'é'.ljust(3, '.') }}{{ 'é'.rjust(3) }}|{{ 'ab'.center(5, '*') }}|{{ 'abc'.center(6) }}|",
            "é..  é|**ab*| abc  |",
        ),
        (
            "{{ 'banana'.index('n') }}{{ 'banana'.rindex('n') }}{{ [1, 2, 3].index(3) }}",
            "242",
        ),
        (
            "{{ 'aBc'.swapcase() }}{{ 'Straße'.casefold() }}{{ '12'.isdecimal() }}{{ ''.isdecimal() }}",
            "AbCstrasseTrueFalse",
        ),
        (
            "{{ '%s is %d' % ('x', 3) }}{{ '%s' % messages[0].role|upper }}{{ '%05.1f' % 2.25 }}",
            "x is 3SYSTEM002.2",
        ),
        ("{% set x = '%s' % 1 %}{{ x ~ '%' }}{{ 7 % 4 }}", "1%3"),
        (
            "{{ 'a-a-a'|replace('-', '+', 1) }}{{ 'a-a-a'|replace('-', '+') }}{{ 'aaa'.replace('a', 'b', 2) \
             }}",
            "a+a-aa+a+abba",
        ),
        (
            "{{ 'one two three four'|truncate(12) }}|{{ 'one two three four'|truncate(12, true) }}|{{ \
             'abc'|truncate(2) }}",
            "one two...|one two t...|abc",
        ),
        (
            "{{ 'one two three four'|truncate(length=9, end='-', leeway=0) }}",
            "one two-",
        ),
        (
            "{{ 'Two words, and \u{e9}t\u{e9}'|wordcount }}{{ 'ab'|center(6) }}|",
            "4  ab  |",
        ),
        (
            "{% set sep = joiner('; ') %}{% for m in messages %}{{ sep() }}{{ m.role }}{% endfor %}",
            "system; user; assistant",
        ),
        (
            "{% set c = cycler('odd', 'even') %}{% for m in messages %}{{ c.next() }} {% endfor %}{{ \
             c.current }}{{ c.reset() }}{{ c.current }}",
            "odd even odd evenNoneodd",
        ),
    ] {
        match render(source, &talk()) {
            Ok(rendered) => assert_eq!(rendered, text, "{source}"),
            Err(error) => panic!("{source}: {error}"),
        }
    }
}

#[test]
fn a_template_shows_the_day_that_was_set() {
    let prompter = with_template("{{ strftime_now('%d %b %Y %H:%M') }}{{ messages[0].role }}").unwrap();
    let options = RenderOptions {
        date: Some(jiff::civil::date(2024, 2, 29)),
        ..RenderOptions::default()
    };
    let text = prompter.render(&talk(), &options).unwrap().text;
    assert!(prompter.writes_date());
    assert_eq!(text, "29 Feb 2024 00:00system");
    assert!(!with_template("{{ messages }}").unwrap().writes_date());
}

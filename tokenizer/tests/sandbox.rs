//! A hostile chat template ends in one error, soon and in little memory.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, json};
use tokenizer::{ChatTemplate, Message, TemplateError};

fn render(source: &str) -> Result<String, TemplateError> {
    let messages = [Message::new("user", "hello")];
    let mut options = Map::new();
    options.insert("s".to_owned(), "abc".into());
    ChatTemplate::new(source)?.render(&messages, None, &options, true)
}

/// The name of the error, as the tables below write it.
fn fault(source: &str) -> String {
    match render(source) {
        Ok(text) => format!("text of {} bytes", text.len()),
        Err(error) => {
            let shown = format!("{error:?}");
            let (name, _) = shown.split_once(' ').unwrap_or((&shown, ""));
            name.to_owned()
        }
    }
}

struct Case {
    source: &'static str,
    fault: &'static str,
}

fn assert_faults(cases: &[Case]) {
    for case in cases {
        assert_eq!(fault(case.source), case.fault, "{}", case.source);
    }
}

#[test]
fn endless_work_runs_out_of_steps() {
    assert_faults(&[
        Case {
            source: "{{ 'x' * 1000000000 }}",
            fault: "TooManySteps",
        },
        Case {
            source: "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
            fault: "TooManySteps",
        },
        Case {
            source: "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
            fault: "TooManySteps",
        },
        Case {
            source: "{% set a = 'a' * 100000 %}{{ a.replace('a', a) | length }}",
            fault: "TooManySteps",
        },
        Case {
            source: "{% set a = 'a' * 100000 %}{{ a.join(range(99999)) | length }}",
            fault: "TooManySteps",
        },
        Case {
            source: "{% set x = range(9999) | list %}{% for i in range(9999) %}{% if x.count(x) %}{% endif %}{% endfor %}",
            fault: "TooManySteps",
        },
        Case {
            source: "{{ '%1000000000d' | format(1) }}",
            fault: "TooManySteps",
        },
        Case {
            source: "{% set x = range(9999) | list %}{% for i in range(9999) %}{{ x | tojson }}{% endfor %}",
            fault: "TooManySteps",
        },
        Case {
            source: "{% for i in range(1000000000) %}{% endfor %}",
            fault: "Render",
        },
        Case {
            source: "{{ '{:>1000000000}'.format(1) }}",
            fault: "Render",
        },
    ]);
}

#[test]
fn recursion_has_an_end() {
    assert_faults(&[
        Case {
            source: "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
            fault: "TooDeep",
        },
        Case {
            source: "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
            fault: "TooDeep",
        },
    ]);
    let long = [
        "{{ ".to_owned() + &"-".repeat(100_000) + "1 }}",
        "{{ ".to_owned() + &"not ".repeat(60_000) + "1 }}",
        "{{ ".to_owned() + &"s+".repeat(60_000) + "s }}",
        "{{ s".to_owned() + &".a".repeat(60_000) + " }}",
        "{{ s".to_owned() + &"|string".repeat(30_000) + " }}",
        "{{ ".to_owned() + &"(".repeat(60_000) + " }}",
        "{% if 0 %}".to_owned() + &"{% elif 0 %}".repeat(20_000) + "{% endif %}",
    ];
    for source in long {
        assert_eq!(fault(&source), "TooDeep", "{}", &source[..40]);
    }
    assert_eq!(
        fault(&("{% if 1 %}".repeat(9000) + &"{% endif %}".repeat(9000))),
        "Syntax"
    );
}

#[test]
fn shared_and_nested_values_stay_small() {
    let grow = |step: &str, last: &str| {
        "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(5000) %}{% for j in range(9) %}"
            .to_owned()
            + step
            + "{% endfor %}{% endfor %}"
            + last
    };
    let double = "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}";
    let ways = [
        grow(double, "{{ ns.x }}"),
        grow(double, "{{ ns.x == ns.y }}"),
        grow(double, "{{ 'a' ~ ns.x }}"),
        grow(double, "{{ ns.x in [ns.y] }}"),
        grow("{% set ns.x = [ns.x] %}", ""),
        grow("{% set ns.x = {'a': ns.x} %}", ""),
        grow("{% set ns.x = (ns.x, ns.x) %}", ""),
        grow("{% set ns.x = ns.x, ns.x %}", ""),
        grow("{% set ns.x = dict(a=ns.x, b=ns.x) %}", ""),
        grow("{% set ns.x = ns.x + ns.x %}", "{{ ns.x | length }}"),
        grow("{% set ns.x = [1] + ns.x %}", "{{ ns.x | length }}"),
        "{% set x = [s] %}".to_owned() + &"{% set x = [x, x] %}".repeat(40) + "{{ x }}",
        "{% set x = [s] %}".to_owned()
            + &"{% set x | default([x, x], true) %}{% endset %}".repeat(40),
        "{% macro f(x, n) %}{{ f([x, x], n - 1) if n else x }}{% endmacro %}{{ f([1], 50) }}"
            .to_owned(),
        "{% set a = 'a' * 100000 %}{% set x = [a] %}".to_owned(),
        "{% set a = 'a' * 100000 %}{{ range(9999) | map('default', a, true) | list }}".to_owned(),
    ];
    for source in ways {
        assert_eq!(fault(&source), "ValueTooLarge", "{source}");
    }
    assert_eq!(
        fault(&grow("{% set ns.x = ns.x[0:] %}", "")),
        "TooManySteps"
    );
    assert_eq!(
        fault(&grow("{% set ns.x = ns.x | reverse %}", "")),
        "TooManySteps"
    );
    let slices = "{% set x = [1, 2] %}".to_owned() + &"{% set x = x[0:] %}".repeat(10_000);
    assert_eq!(render(&(slices + "{{ x }}")).unwrap(), "[1, 2]");
}

#[test]
fn lists_are_not_repeated_and_namespaces_not_kept_in_values() {
    assert_faults(&[
        Case {
            source: "{{ [1] * 3 }}",
            fault: "Render",
        },
        Case {
            source: "{{ 3 * (messages | list) }}",
            fault: "Render",
        },
        Case {
            source: "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
            fault: "Render",
        },
        Case {
            source: "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}",
            fault: "Render",
        },
        Case {
            source: "{% set ns = namespace(a=namespace()) %}",
            fault: "Render",
        },
    ]);
}

#[test]
fn the_checks_cannot_be_replaced() {
    assert_faults(&[
        Case {
            source: "{% macro check__(x) %}{% endmacro %}",
            fault: "Syntax",
        },
        Case {
            source: "{% set assign__ = 1 %}",
            fault: "Syntax",
        },
    ]);
    let template = ChatTemplate::new("{{ [1] }}").unwrap();
    for name in [
        "check__",
        "assign__",
        "messages",
        "tools",
        "add_generation_prompt",
    ] {
        let mut options = Map::new();
        options.insert(name.to_owned(), json!(1));
        let error = template.render(&[], None, &options, false).unwrap_err();
        assert_eq!(
            error,
            TemplateError::ReservedOption {
                name: name.to_owned()
            }
        );
    }
}

#[test]
fn source_and_output_are_limited() {
    assert_eq!(fault(&"x".repeat(300_000)), "SourceTooLong");
    let message = Message::new("user", "x".repeat(1 << 20));
    let template =
        ChatTemplate::new("{% for i in range(40) %}{{ messages[0].content }}{% endfor %}");
    let error = template
        .unwrap()
        .render(&[message], None, &Map::new(), false)
        .unwrap_err();
    assert_eq!(error, TemplateError::OutputTooLong { limit: 32 << 20 });
}

#[test]
fn files_and_unknown_names_are_out_of_reach() {
    for source in [
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{{ x | batch(2) }}",
        "{{ debug() }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ s.a.b }}",
        "{{ [1",
        "{{ 1) }}",
    ] {
        assert!(render(source).is_err(), "{source}");
    }
}

#[test]
fn a_template_can_refuse_and_says_why() {
    let error = render("\n{{ raise_exception('only two roles') }}").unwrap_err();
    let message = "only two roles".to_owned();
    assert_eq!(error, TemplateError::Raised { message });
    let error = render("a\n\n{{ messages.x.y }}").unwrap_err();
    assert!(
        matches!(error, TemplateError::Render { line: 3, .. }),
        "{error}"
    );
    let error = render("a\n{% if %}").unwrap_err();
    assert!(
        matches!(error, TemplateError::Syntax { line: 2, .. }),
        "{error}"
    );
}

#[test]
fn the_clock_is_given_by_the_caller() {
    let source = "{{ strftime_now('%d %B %Y') }}";
    assert_eq!(fault(source), "Render");
    let template =
        ChatTemplate::with_clock(source, || UNIX_EPOCH + Duration::from_secs(1_709_208_000));
    let text = template
        .unwrap()
        .render(&[], None, &Map::new(), false)
        .unwrap();
    assert_eq!(text, "29 February 2024");
}

struct Rendered {
    source: &'static str,
    text: &'static str,
}

/// The texts are those of jinja2 with the settings of transformers.
fn assert_texts(cases: &[Rendered]) {
    for Rendered { source, text } in cases {
        assert_eq!(render(source).as_deref(), Ok(*text), "{source}");
    }
}

#[test]
fn checks_do_not_change_what_expressions_give() {
    assert_texts(&[
        Rendered {
            source: "{{ 1+2*3**2-4//2+7%3 }} {{ -2**2 }} {{ 2*-3 }}",
            text: "18 4 -6",
        },
        Rendered {
            source: "{{ 'x'+'y'|upper }} {{ ('x'+'y')|upper }}",
            text: "xY XY",
        },
        Rendered {
            source: "{{ 2*s|length }} {{ s|length*2 }} {{ 1+s|length+1 }}",
            text: "6 6 5",
        },
        Rendered {
            source: "{{ '-'*3+'x' }} {{ 'a'~s+'b'~'c' }}",
            text: "---x aabcbc",
        },
        Rendered {
            source: "{{ [1]+[2]+[3] }} {{ (1,2)+(3,) }} {{ () }}",
            text: "[1, 2, 3] (1, 2, 3) ()",
        },
        Rendered {
            source: "{{ {'a': 1+1}['a']*2 }} {{ [[1], [2]][1][0] }}",
            text: "4 2",
        },
        Rendered {
            source: "{{ s[0+1:1+1] }} {{ s[::-1] }} {{ s + s[1:] }}",
            text: "b cba abcbc",
        },
        Rendered {
            source: "{{ 1 + 2 if s else 3 + 4 }} {{ not 1+1 }} {{ 1+1 in [2] }}",
            text: "3 False True",
        },
    ]);
}

#[test]
fn checks_do_not_change_what_statements_filters_and_tests_give() {
    assert_texts(&[
        Rendered {
            source: "{% for i in [1]+[2] if i+1 is odd %}{{ i+1 }}{% endfor %}",
            text: "23",
        },
        Rendered {
            source: "{% set a, b = 1, [2] %}{{ a }}{{ b }}",
            text: "1[2]",
        },
        Rendered {
            source: "{% set ns = namespace(l=[]) %}{% for i in range(3) %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.l }}",
            text: "[0, 1, 2]",
        },
        Rendered {
            source: "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% elif i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            text: "02",
        },
        Rendered {
            source: "{% macro f(a, b=[1]) %}{{ a }}{{ b }}{% endmacro %}{{ f(0) }}",
            text: "0[1]",
        },
        Rendered {
            source: "{% raw %}{{ [1] + }}{% endraw %}{# [ #}",
            text: "{{ [1] + }}",
        },
        Rendered {
            source: "{{ none is iterable }} {{ s is sequence }} {{ {} is sequence }}",
            text: "False True True",
        },
        Rendered {
            source: "{{ true }} {{ none }} {{ [true, none, 'a'] }}",
            text: "True None [True, None, 'a']",
        },
        Rendered {
            source: r#"{{ {"b": "<é>", "a": [1, 1.0]} | tojson }}"#,
            text: r#"{"b": "<é>", "a": [1, 1.0]}"#,
        },
        Rendered {
            source: "{{ {'b': [], 'a': [1]} | tojson(indent=1, sort_keys=true) }}",
            text: "{\n \"a\": [\n  1\n ],\n \"b\": []\n}",
        },
        Rendered {
            source: "{{ 'é' | tojson(ensure_ascii=true) }} {{ [1, {}] | tojson(separators=[',', ':']) }}",
            text: "\"\\u00e9\" [1,{}]",
        },
    ]);
}

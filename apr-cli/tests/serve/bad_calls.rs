//! What is wrong in the same way for every API, and what is wrong in the fields that each has
//! of its own: an error of its kind in the form of the API, and a server as it was.

use serde_json::{Value, json};

use crate::{
    apis::{self, Api, Form},
    server::Server,
    wire::{post, with_head},
};

/// A body and what must be said of it.
#[derive(Clone)]
struct Case {
    name: String,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    param: String,
}

const BAD_JSON: &str = "invalid_json";
const VALUE: &str = "invalid_value";
const TYPE: &str = "invalid_type";
const TOKEN: &str = "invalid_token";
const NO_SUCH: &str = "unsupported_parameter";
const UNKNOWN: &str = "unknown_parameter";
const MISSING: &str = "missing_field";
const TOO_LONG: &str = "context_length_exceeded";

fn raw(name: &str, body: impl Into<Vec<u8>>, code: &'static str) -> Case {
    Case {
        name: name.to_owned(),
        body: body.into(),
        status: 400,
        code,
        param: String::new(),
    }
}

/// The good body of an API with some fields of another value.
fn with(api: &Api, more: &Value, code: &'static str, param: &str) -> Case {
    let mut name = more.to_string();
    name.truncate(name.floor_char_boundary(60));
    Case {
        param: param.to_owned(),
        status: if code == "model_not_found" { 404 } else { 400 },
        ..raw(&name, api.with(more.clone()).to_string(), code)
    }
}

fn nested(field: &str, open: &str, close: &str) -> String {
    format!(
        "{{\"{field}\": {}{}}}",
        open.repeat(10_000),
        close.repeat(10_000)
    )
}

/// What no API can read.
#[rustfmt::skip]
fn malformed(api: &Api) -> Vec<Case> {
    vec![
        raw("nothing", "", BAD_JSON),
        raw("null", "null", TYPE),
        raw("an array", "[]", TYPE),
        raw("cut short", format!("{{\"{}\": \"Sp", api.prompt), BAD_JSON),
        raw("two bodies", format!("{0}{0}", api.body), BAD_JSON),
        raw("not UTF-8", b"{\"a\": \"\xff\xfe\"}".to_vec(), BAD_JSON),
        raw("half a surrogate", "{\"a\": \"\\ud800\"}", BAD_JSON),
        raw("10,000 arrays", nested(api.prompt, "[", "]"), BAD_JSON),
        raw("10,000 objects", nested(api.prompt, "{\"a\":", "}"), BAD_JSON),
        raw("a number without end", format!("{{\"a\": 1{}}}", "0".repeat(400)), BAD_JSON),
    ]
}

/// What is wrong for every API.
fn common(api: &Api) -> Vec<Case> {
    let is_ollama = api.form == Form::Ollama;
    let mut cases = vec![
        with(api, &json!({"tempratur": 1}), UNKNOWN, "tempratur"),
        with(api, &json!({"model": 7}), TYPE, "model"),
        with(api, &json!({"model": "gpt-4o"}), "model_not_found", ""),
        with(api, &json!({"stream": "yes"}), TYPE, "stream"),
    ];
    if !api.has_stream {
        cases.pop();
    }
    if is_ollama {
        cases.push(with(api, &json!({"model": null}), MISSING, "model"));
    } else {
        cases.push(with(api, &json!({api.prompt: null}), MISSING, api.prompt));
    }
    if api.path != "/detokenize" {
        cases.push(with(api, &json!({api.prompt: 7}), TYPE, api.prompt));
    }
    cases
}

/// Settings out of their range, under the names that the API has for them.
#[rustfmt::skip]
fn settings(api: &Api, place: &str, n_most: &str, stop: &str) -> Vec<Case> {
    let case = |name: &str, value: Value, code, more: &str| {
        let field = json!({name: value});
        match place {
            "" => with(api, &field, code, &format!("{name}{more}")),
            place => with(api, &json!({place: field}), code, &format!("{place}.{name}{more}")),
        }
    };
    let many: Vec<_> = (0..65).map(|idx| idx.to_string()).collect();
    vec![
        case("temperature", json!(-1), VALUE, ""),
        case("temperature", json!(1e39), VALUE, ""),
        case("temperature", json!("hot"), TYPE, ""),
        case("top_p", json!(1.1), VALUE, ""),
        case("min_p", json!(2), VALUE, ""),
        case("top_k", json!(1e10), VALUE, ""),
        case("repeat_penalty", json!(0), VALUE, ""),
        case("repeat_last_n", json!(-2), VALUE, ""),
        case("mirostat", json!(1), NO_SUCH, ""),
        case("seed", json!(1.5), TYPE, ""),
        case("logit_bias", json!({"2048": 1}), VALUE, ""),
        case(n_most, json!(-9), VALUE, ""),
        case(n_most, json!(1.5), TYPE, ""),
        case(n_most, json!([]), TYPE, ""),
        case(stop, json!(""), VALUE, "[0]"),
        case(stop, json!(many), VALUE, ""),
        case(stop, json!("x".repeat(5000)), VALUE, "[0]"),
        case(stop, json!([7]), TYPE, "[0]"),
    ]
}

/// Conversations that are none.
#[rustfmt::skip]
fn conversations(api: &Api) -> Vec<Case> {
    let field = api.prompt;
    let is_own = api.form == Form::Anthropic || field == "input";
    let one = |message: Value| json!({field: [message]});
    let say = |content: Value| one(json!({"role": "user", "content": content}));
    let part = |part: Value| say(json!([{"type": "text", "text": "x"}, part]));
    let second = |message: Value| json!({field: [{"role": "user", "content": "x"}, message]});
    let many = vec![json!({"role": "user", "content": "x"}); 100_000];
    let at = |place: &str| format!("{field}{place}");
    let mut cases = vec![
        with(api, &json!({field: {}}), TYPE, field),
        with(api, &one(json!(7)), TYPE, &at("[0]")),
        with(api, &one(json!({"role": "god", "content": "x"})), VALUE, &at("[0].role")),
        with(api, &one(json!({"content": "x"})), VALUE, &at("[0].role")),
        with(api, &second(json!({"role": "god", "content": "x"})), VALUE, &at("[1].role")),
        with(api, &second(json!({"role": "user", "content": 7})), TYPE, &at("[1].content")),
        with(api, &part(json!({"type": "image_url", "image_url": {"url": "http://x"}})), NO_SUCH, &at("[0].content[1].type")),
        with(api, &part(json!({"type": "text"})), VALUE, &at("[0].content[1].text")),
    ];
    if api.path != "/v1/messages/count_tokens" && api.path != "/apply-template" {
        cases.push(with(api, &say(json!("word ".repeat(3000))), TOO_LONG, field));
        cases.push(with(api, &json!({field: many}), TOO_LONG, field));
    }
    if !is_own {
        cases.push(with(api, &json!({"tools": "all"}), TYPE, "tools"));
        cases.push(with(api, &json!({"tools": [{"function": {}}]}), VALUE, "tools"));
    }
    cases
}

/// What each API has of its own.
#[rustfmt::skip]
fn own(api: &Api) -> Vec<Case> {
    let case = |more: Value, code, param: &str| with(api, &more, code, param);
    match api.path {
        "/v1/responses" => vec![
            case(json!({"previous_response_id": "resp_1"}), NO_SUCH, "previous_response_id"),
            case(json!({"conversation": "c"}), NO_SUCH, "conversation"),
            case(json!({"background": true}), NO_SUCH, "background"),
            case(json!({"truncation": "auto"}), NO_SUCH, "truncation"),
            case(json!({"n": 2}), NO_SUCH, "n"),
            case(json!({"input": [{"type": "computer_call"}]}), NO_SUCH, "input[0].type"),
            case(json!({"input": [{"type": "function_call"}]}), VALUE, "input[0].call_id"),
            case(json!({"input": [{"type": "function_call_output", "call_id": "1", "output": 7}]}), TYPE, "input[0].output"),
            case(json!({"input": [{"type": "function_call_output", "call_id": "1", "output": [{"type": "image"}]}]}), NO_SUCH, "input[0].output[0].type"),
            case(json!({"instructions": "x", "input": [{"role": "god", "content": "x"}]}), VALUE, "input[0].role"),
            case(json!({"input": []}), VALUE, "input"),
            case(json!({"instructions": 7}), TYPE, "instructions"),
            case(json!({"reasoning": {"effort": "huge"}}), VALUE, "reasoning.effort"),
            case(json!({"reasoning": {"effort": 7}}), TYPE, "reasoning.effort"),
            case(json!({"reasoning": "much"}), TYPE, "reasoning"),
            case(json!({"tools": [{"type": "web_search"}]}), NO_SUCH, "tools[0].type"),
            case(json!({"stream_options": {"include_usage": true}}), UNKNOWN, "stream_options.include_usage"),
        ],
        "/v1/messages" => vec![
            case(json!({"max_tokens": null}), MISSING, "max_tokens"),
            case(json!({"max_tokens": 0}), VALUE, "max_tokens"),
            case(json!({"messages": []}), VALUE, "messages"),
            case(json!({"system": 7}), TYPE, "system"),
            case(json!({"system": [{"type": "image"}]}), NO_SUCH, "system[0].type"),
            case(json!({"messages": [{"role": "system", "content": "x"}]}), VALUE, "messages[0].role"),
            case(json!({"thinking": {"type": "enabled"}}), MISSING, "thinking.budget_tokens"),
            case(json!({"thinking": {"type": "enabled", "budget_tokens": 2}}), VALUE, "thinking.budget_tokens"),
            case(json!({"thinking": {"type": "much"}}), VALUE, "thinking.type"),
            case(json!({"tools": [{"name": "f"}]}), MISSING, "tools[0].input_schema"),
            case(json!({"tools": [{"type": "bash_20250124", "name": "bash"}]}), NO_SUCH, "tools[0].type"),
            case(json!({"mcp_servers": [{"url": "http://x"}]}), NO_SUCH, "mcp_servers"),
        ],
        "/api/generate" => of_ollama(api),
        "/api/chat" => {
            let said = |more: Value| {
                let mut message = json!({"role": "user", "content": "x"});
                message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                json!({"messages": [message]})
            };
            let own = vec![
                case(said(json!({"images": ["aGk="]})), NO_SUCH, "messages[0].images"),
                case(said(json!({"thinking": 7})), TYPE, "messages[0].thinking"),
                case(said(json!({"tool_name": 7})), TYPE, "messages[0].tool_name"),
            ];
            [own, of_ollama(api)].concat()
        },
        "/v1/embeddings" => vec![
            case(json!({"input": [1, 2048]}), TOKEN, "input[1]"),
            case(json!({"input": [-1]}), TOKEN, "input[0]"),
            case(json!({"input": [4_294_967_296_u64]}), TOKEN, "input[0]"),
            case(json!({"input": ""}), VALUE, "input"),
            case(json!({"input": []}), VALUE, "input"),
            case(json!({"input": [[1], []]}), VALUE, "input[1]"),
            case(json!({"input": vec!["a"; 2049]}), VALUE, "input"),
            case(json!({"input": "word ".repeat(3000)}), TOO_LONG, "input"),
            case(json!({"dimensions": 3}), NO_SUCH, "dimensions"),
            case(json!({"encoding_format": "x"}), VALUE, "encoding_format"),
        ],
        "/tokenize" => vec![
            case(json!({"content": ["Speak"]}), TYPE, "content"),
            case(json!({"parse_special": "yes"}), TYPE, "parse_special"),
            case(json!({"with_pieces": 1}), TYPE, "with_pieces"),
        ],
        "/detokenize" => vec![
            case(json!({"tokens": 7}), TYPE, "tokens"),
            case(json!({"tokens": [1, 2048]}), TOKEN, "tokens[1]"),
            case(json!({"tokens": [1, -1]}), TOKEN, "tokens[1]"),
            case(json!({"tokens": [1.5]}), TOKEN, "tokens[0]"),
            case(json!({"tokens": [u64::MAX]}), TOKEN, "tokens[0]"),
            case(json!({"tokens": ["x"]}), TOKEN, "tokens[0]"),
        ],
        _ => Vec::new(),
    }
}

#[rustfmt::skip]
fn of_ollama(api: &Api) -> Vec<Case> {
    vec![
        with(api, &json!({"options": 7}), TYPE, "options"),
        with(api, &json!({"options": {"tempratur": 1}}), UNKNOWN, "options.tempratur"),
        with(api, &json!({"think": 7}), VALUE, "think"),
        with(api, &json!({"think": "huge"}), VALUE, "think"),
        with(api, &json!({"format": "xml"}), VALUE, "format"),
    ]
}

fn cases(api: &Api) -> Vec<Case> {
    let settings = match api.path {
        "/v1/responses" => settings(api, "", "max_output_tokens", "stop"),
        "/v1/messages" => settings(api, "", "max_tokens", "stop_sequences"),
        "/api/chat" | "/api/generate" => settings(api, "options", "num_predict", "stop"),
        _ => Vec::new(),
    };
    let conversations = match api.path {
        "/v1/responses"
        | "/v1/messages"
        | "/api/chat"
        | "/apply-template"
        | "/v1/messages/count_tokens" => conversations(api),
        _ => Vec::new(),
    };
    let mut cases = [
        malformed(api),
        common(api),
        settings,
        conversations,
        own(api),
    ]
    .concat();
    if api.path == "/api/generate" {
        let long = json!({"prompt": "word ".repeat(3000)});
        cases.push(with(api, &long, TOO_LONG, ""));
    }
    // A stream that cannot begin is an error like any other.
    let streamed = cases
        .iter()
        .filter(|case| case.code == TOO_LONG && case.body.len() < 100_000);
    let streamed: Vec<_> = streamed
        .filter_map(|case| streamed_case(api, case))
        .collect();
    cases.extend(streamed);
    cases
}

fn streamed_case(api: &Api, case: &Case) -> Option<Case> {
    let mut body: Value = serde_json::from_slice(&case.body).unwrap();
    body["stream"] = json!(true);
    api.has_stream.then(|| Case {
        name: format!("{}, streamed", case.name),
        body: body.to_string().into_bytes(),
        ..case.clone()
    })
}

/// Returns what is wrong with the answer to a case, if anything.
fn complaint(server: &Server, api: &Api, case: &Case) -> Option<String> {
    let response = server.ask(&post(api.path, &case.body));
    if response.status != case.status {
        return Some(format!("{}: {}", response.status, response.body));
    }
    if response.header("x-request-id").is_none() {
        return Some("no id".to_owned());
    }
    api.complaint(&response.json(), case.code, &case.param)
}

#[test]
fn every_api_tells_what_is_wrong_in_its_own_form() {
    let server = Server::start(&["-np", "2", "-c", "512", "--quiet"]);
    let resting = server.n_files();
    let (mut complaints, mut n_cases) = (Vec::new(), 0);
    for api in apis::all().iter().filter(|api| !is_told_elsewhere(api)) {
        assert_eq!(server.post(api.path, &api.body).status, 200, "{}", api.path);
        for case in cases(api) {
            let complaint = complaint(&server, api, &case);
            complaints.extend(complaint.map(|it| format!("{} {}: {it}", api.path, case.name)));
            n_cases += 1;
        }
        server.rest(api.path, resting);
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(n_cases >= 200, "{n_cases}");
}

/// The module `bad_bodies` has these two.
fn is_told_elsewhere(api: &Api) -> bool {
    ["/v1/chat/completions", "/v1/completions"].contains(&api.path)
}

#[test]
fn what_never_reaches_an_api_is_told_in_its_form_too() {
    let server = Server::start(&["-c", "512", "--quiet", "--api-key", "sk-one"]);
    let keyed = "host: localhost\r\nx-api-key: sk-one\r\n";
    for api in apis::all() {
        let check = |lines: &str, method: &str, status: u16, code: &str| {
            let response = server.ask(&with_head(method, api.path, lines));
            assert_eq!(response.status, status, "{} {}", api.path, response.body);
            let complaint = api.complaint(&response.json(), code, "");
            assert_eq!(complaint, None, "{}", api.path);
        };
        check(keyed, "GET", 405, "method_not_allowed");
        check(keyed, "PUT", 405, "method_not_allowed");
        check("host: localhost\r\n", "POST", 401, "invalid_api_key");
        check("host: evil.example\r\n", "POST", 403, "host_not_allowed");
        let page = format!("{keyed}origin: https://evil.example\r\n");
        check(&page, "POST", 403, "origin_not_allowed");
        // Ollama's clients need not say that what they send is JSON.
        match api.form {
            Form::Ollama => check(keyed, "POST", 400, "invalid_json"),
            Form::OpenAi | Form::Anthropic => {
                check(keyed, "POST", 415, "unsupported_media_type");
            }
        }
    }
}

//! Which experts a text goes to: `apr trace`, and `apr run --routing`.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use crate::{BUILTIN, done, isas, json, stderr, stdout};

const TEXT: &str = "ROMEO:\nBut, soft! what light through yonder window breaks?\n\
    It is the east, and Juliet is the sun.\nArise, fair sun, and kill the envious moon.\n";

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/trace.md");

fn keys(object: &Value) -> BTreeSet<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// The names in the first column of the table under a heading of the description.
fn documented<'a>(document: &'a str, heading: &str) -> BTreeSet<&'a str> {
    let (_, section) = document.split_once(&format!("\n{heading}\n")).unwrap();
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap()).collect()
}

#[test]
fn the_json_object_is_the_documented_one() {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let record = json(&["trace", "-q", "--json", "-p", TEXT]);
    assert_eq!(keys(&record), documented(&document, "## The object"));
    let part = |name: &str| record[name].as_array().unwrap();
    for (name, heading) in [
        ("layers", "### Of a layer"),
        ("coverage", "### Of a part of the choices"),
        ("hottest", "### Of a hot expert"),
    ] {
        let documented = documented(&document, heading);
        assert!(
            part(name).iter().all(|entry| keys(entry) == documented),
            "{name}"
        );
    }
    let n_tokens = record["n_tokens"].as_u64().unwrap();
    assert_eq!(part("layers").len(), 4);
    for (number, layer) in part("layers").iter().enumerate() {
        let counts = layer["counts"].as_array().unwrap().iter();
        let counts: Vec<u64> = counts.map(|count| count.as_u64().unwrap()).collect();
        assert_eq!((counts.len(), counts.iter().sum()), (16, 4 * n_tokens));
        let entropy = layer["entropy_bits"].as_f64().unwrap();
        assert!((2.0..=4.0).contains(&entropy), "{entropy}");
        assert_eq!(layer["next_layer_bits"].is_null(), number == 3);
        let overlap = &layer["next_token"]["found"];
        assert!((0.0..=1.0).contains(&overlap.as_f64().unwrap()));
        let never = (0..16)
            .filter(|&expert| counts[expert] == 0)
            .collect::<Vec<_>>();
        assert_eq!(layer["never_chosen"], json!(never));
    }
    let percents: Vec<_> = part("coverage")
        .iter()
        .map(|part| &part["percent"])
        .collect();
    assert_eq!(percents, [50, 80, 90]);
}

#[test]
fn a_run_and_a_trace_agree_on_every_choice() {
    let trace = json(&["trace", "-q", "--json", "-p", TEXT, "-b", "5"]);
    let run = json(&["run", "-q", "--json", "--routing", "-p", TEXT, "-n", "0"]);
    let tokens = run["routing"].as_array().unwrap();
    assert_eq!(trace["n_tokens"], tokens.len());
    for layer in 0..4 {
        let mut counts = vec![0; 16];
        for token in tokens {
            let experts = token["experts"][layer].as_array().unwrap();
            let weights = token["weights"][layer].as_array().unwrap();
            assert_eq!((experts.len(), weights.len()), (4, 4));
            experts
                .iter()
                .for_each(|expert| counts[expert.as_u64().unwrap() as usize] += 1);
            let weights: Vec<f64> = weights.iter().map(|w| w.as_f64().unwrap()).collect();
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-6);
            assert!(weights.is_sorted_by(|a, b| a >= b), "{weights:?}");
        }
        assert_eq!(trace["layers"][layer]["counts"], json!(counts));
    }
}

#[test]
fn routing_is_that_of_every_token_that_went_through_the_model() {
    let run = |more: &[&str]| {
        let args = [
            "run", "-q", "--json", "-p", "ROMEO:", "--temp", "0", "-n", "4",
        ];
        json(&[&args[..], more].concat())
    };
    let record = run(&["--routing"]);
    let ids = |record: &Value| {
        let ids = ["prompt_ids", "ids"].map(|name| record[name].as_array().unwrap().clone());
        ids.concat()
    };
    let routed = record["routing"].as_array().unwrap().iter();
    let routed: Vec<Value> = routed.map(|token| token["id"].clone()).collect();
    // Nobody has asked what follows the last token.
    let all = ids(&record);
    assert_eq!(routed, all[..all.len() - 1]);
    assert_eq!(
        run(&["--routing", "-b", "1", "-t", "1"])["routing"],
        record["routing"]
    );
    assert!(run(&[]).get("routing").is_none());

    let alone = done(&["run", "-p", "ROMEO:", "--routing"]);
    assert_eq!(alone.status.code(), Some(2));
    assert!(stderr(&alone).contains("--json"), "{}", stderr(&alone));
}

#[test]
fn a_trace_does_not_depend_on_threads_instructions_or_batches() {
    let trace = |more: &[&str]| {
        let args = ["trace", "-q", "--json", "-p", TEXT];
        json(&[&args[..], more].concat())
    };
    let expected = trace(&["--isa", "scalar", "-t", "1"]);
    for isa in isas() {
        assert_eq!(
            trace(&["--isa", isa, "-t", "2", "-b", "7"]),
            expected,
            "{isa}"
        );
    }
}

#[test]
fn a_text_longer_than_the_context_is_read_in_windows_and_that_is_said() {
    let whole = json(&["trace", "-q", "--json", "-p", TEXT]);
    assert_eq!(
        (&whole["n_windows"], &whole["n_ctx"]),
        (&json!(1), &whole["n_tokens"])
    );
    let args = ["trace", "--json", "-p", TEXT, "-c", "8"];
    let cut = json(&args);
    assert_eq!(cut["n_tokens"], whole["n_tokens"], "every token counts");
    let n_windows = cut["n_tokens"].as_u64().unwrap().div_ceil(8);
    assert_eq!(
        (&cut["n_windows"], &cut["n_ctx"]),
        (&json!(n_windows), &json!(8))
    );
    let said = format!("read in {n_windows} windows of at most 8 tokens");
    assert!(stderr(&done(&args)).contains(&said));
    let some = done(&[&args[..], &["--chunks", "2"]].concat());
    assert!(stderr(&some).contains("2 windows of at most 8 tokens"));
    assert!(stderr(&some).contains(&format!("{} windows left out", n_windows - 2)));
    let quiet = done(&[&args[..], &["-q"]].concat());
    assert_eq!(stderr(&quiet), "");
}

#[test]
fn the_report_says_what_the_hottest_experts_cover_and_cost() {
    let output = done(&["trace", "-q", "-p", TEXT]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
    let report = stdout(&output);
    for part in [
        "each to 4 of 16 experts in 4 layers",
        "entropy",
        "of 64",
        "50 %",
        "90 %",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    assert!(
        report.lines().all(|line| line.chars().count() <= 100),
        "{report}"
    );
}

#[test]
fn the_heat_map_is_drawn_as_svg_and_png() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (svg, png) = (path("map.svg"), path("map.png"));
    let drawn = done(&["trace", "-p", TEXT, "--svg", &svg, "--png", &png]);
    assert_eq!(drawn.status.code(), Some(0), "{}", stderr(&drawn));
    assert!(stderr(&drawn).contains("heat map of 4 layers × 16 experts"));
    let document = fs::read_to_string(&svg).unwrap();
    assert_eq!(document.matches("<title>layer ").count(), 4 * 16);
    assert!(document.contains("experts chosen by layer</title>"));
    let number = |text: &str| -> u32 {
        let (_, rest) = document.split_once(text).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    };
    let picture = fs::read(&png).unwrap();
    assert_eq!(picture[..8], *b"\x89PNG\r\n\x1a\n");
    let size = [16, 20].map(|at| u32::from_be_bytes(picture[at..at + 4].try_into().unwrap()));
    assert_eq!(size, [2 * number("width=\""), 2 * number("height=\"")]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn pictures_take_the_place_of_nothing_that_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (model, text, map) = (path("m.gguf"), path("text.txt"), path("map"));
    fs::copy(BUILTIN, &model).unwrap();
    fs::write(&text, TEXT).unwrap();
    let missing = path("no/such/map");
    for (pictures, code) in [
        (["--svg", &model].as_slice(), 2),
        (&["--png", &text], 2),
        (&["--svg", &map, "--png", &map], 2),
        (&["--svg", &map, "--png", &missing], 4),
        (&["--chunks", "0"], 2),
    ] {
        let output = done(&[&["trace", "-m", &model, "-f", &text], pictures].concat());
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    assert_eq!(fs::read(&text).unwrap(), TEXT.as_bytes());
    assert!(fs::read(&model).unwrap() == fs::read(BUILTIN).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    let empty = done(&["trace", "-p", ""]);
    assert_eq!(empty.status.code(), Some(2));
    assert!(stderr(&empty).contains("the text is empty"));
}

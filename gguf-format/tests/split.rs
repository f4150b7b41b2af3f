//! Split models: file names, and shards put together.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use gguf_format::{
    GgmlType, Gguf, GgufError, GgufSet, GgufWriter,
    split::{ShardName, SplitInfo},
};

/// A shard with one-element tensors of the given names.
fn shard(split: Option<(u16, u16, i32)>, names: &[&str]) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    if let Some((no, count, n_tensors)) = split {
        writer.set("split.no", no).unwrap();
        writer.set("split.count", count).unwrap();
        writer.set("split.tensors.count", n_tensors).unwrap();
    }
    writer.set("general.name", names.concat()).unwrap();
    for name in names {
        writer.tensor(name, &[1], GgmlType::I8).unwrap();
    }
    let data: Vec<&[u8]> = names.iter().map(|name| &name.as_bytes()[..1]).collect();
    writer.to_bytes(&data).unwrap()
}

fn set(files: &[Vec<u8>]) -> Result<GgufSet<'_>, GgufError> {
    GgufSet::new(
        files
            .iter()
            .map(|file| Gguf::parse(file).unwrap())
            .collect(),
    )
}

#[test]
fn a_whole_file_is_a_set_of_one() {
    let files = [shard(None, &["b", "a"])];
    let set = set(&files).unwrap();
    assert_eq!(set.shards().len(), 1);
    assert_eq!(set.tensor("a").unwrap().data, b"a");
    assert_eq!(
        set.tensors()
            .map(|tensor| tensor.info.name())
            .collect::<String>(),
        "ba"
    );
}

#[test]
fn shards_have_the_face_of_one_file() {
    let files = [
        shard(Some((0, 4, 5)), &["c", "a"]),
        shard(Some((1, 4, 5)), &[]),
        shard(Some((2, 4, 5)), &["d"]),
        shard(Some((3, 4, 5)), &["b", "e"]),
    ];
    let set = set(&files).unwrap();
    assert_eq!(
        set.metadata().require::<&str>("general.name").unwrap(),
        "ca"
    );
    assert_eq!(set.tensors().len(), 5);
    assert_eq!(
        set.tensors()
            .map(|tensor| tensor.info.name())
            .collect::<String>(),
        "cadbe"
    );
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(set.tensor(name).unwrap().data, name.as_bytes());
    }
    assert!(set.find("f").is_none());
    assert!(matches!(
        set.tensor("f"),
        Err(GgufError::MissingTensor { n_tensors: 5, .. })
    ));
}

#[test]
fn no_shards_are_no_model() {
    assert!(matches!(set(&[]), Err(GgufError::NoShards)));
}

#[test]
fn a_shard_alone_asks_for_the_others() {
    let files = [shard(Some((0, 3, 3)), &["a"])];
    let fault = set(&files).unwrap_err();
    assert!(
        matches!(
            fault,
            GgufError::ShardCount {
                shard: 0,
                expected: 3,
                found: 1
            }
        ),
        "{fault}"
    );
}

#[test]
fn shards_out_of_order_are_refused() {
    let files = [
        shard(Some((1, 2, 2)), &["a"]),
        shard(Some((0, 2, 2)), &["b"]),
    ];
    let fault = set(&files).unwrap_err();
    assert!(
        matches!(fault, GgufError::ShardOrder { shard: 0, found: 1 }),
        "{fault}"
    );
}

#[test]
fn a_whole_file_among_shards_is_refused() {
    let files = [shard(Some((0, 2, 2)), &["a"]), shard(None, &["b"])];
    let fault = set(&files).unwrap_err();
    assert!(
        matches!(
            fault,
            GgufError::NotAShard {
                shard: 1,
                key: "split.count"
            }
        ),
        "{fault}"
    );
}

#[test]
fn a_tensor_that_is_missing_from_all_shards_is_noticed() {
    let files = [
        shard(Some((0, 2, 3)), &["a"]),
        shard(Some((1, 2, 3)), &["b"]),
    ];
    let fault = set(&files).unwrap_err();
    let expected = GgufError::ShardTensorCount {
        shard: 0,
        expected: 3,
        found: 2,
    };
    assert_eq!(fault.to_string(), expected.to_string());
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let files = [
        shard(Some((0, 2, 3)), &["a", "b"]),
        shard(Some((1, 2, 3)), &["b"]),
    ];
    let fault = set(&files).unwrap_err();
    assert!(
        matches!(&fault, GgufError::DuplicateAcrossShards { name, first: 0, second: 1 }
            if name == "b"),
        "{fault}"
    );
}

#[test]
fn a_shard_number_beyond_the_count_is_refused() {
    let files = [shard(Some((2, 2, 1)), &["a"])];
    let gguf = Gguf::parse(&files[0]).unwrap();
    let fault = SplitInfo::of(gguf.metadata()).unwrap_err();
    assert!(
        matches!(&fault, GgufError::OutOfRange { key, .. } if key == "split.no"),
        "{fault}"
    );
}

#[test]
fn every_shard_leads_to_all_names_in_the_same_folder() {
    let names = [
        "m-of-x-00001-of-00003.gguf",
        "m-of-x-00002-of-00003.gguf",
        "m-of-x-00003-of-00003.gguf",
    ];
    for (number, name) in (1..).zip(names) {
        let shard = ShardName::parse(name).unwrap();
        assert_eq!(
            (shard.prefix(), shard.number(), shard.count()),
            ("m-of-x", number, 3)
        );
        assert_eq!(shard.siblings().collect::<Vec<_>>(), names);
    }
}

#[test]
fn other_names_are_refused() {
    let names = [
        "model.gguf",
        "model-00001-of-00003.bin",
        "model-1-of-3.gguf",
        "model-000001-of-000003.gguf",
        "model-00000-of-00003.gguf",
        "model-00004-of-00003.gguf",
        "model-+0001-of-00003.gguf",
        "../model-00001-of-00003.gguf",
        "folder/model-00001-of-00003.gguf",
        "C:\\model-00001-of-00003.gguf",
        "",
    ];
    for name in names {
        let parsed = ShardName::parse(name);
        assert!(
            matches!(parsed, Err(GgufError::ShardName { .. })),
            "{name:?}: {parsed:?}"
        );
    }
}

#[test]
fn a_name_that_contradicts_the_metadata_is_refused() {
    let info = SplitInfo {
        no: 0,
        count: 3,
        n_tensors: None,
    };
    assert!(
        ShardName::parse("m-00001-of-00003.gguf")
            .unwrap()
            .check(&info)
            .is_ok()
    );
    for name in ["m-00002-of-00003.gguf", "m-00001-of-00004.gguf"] {
        let fault = ShardName::parse(name).unwrap().check(&info).unwrap_err();
        assert!(
            fault.to_string().contains("m-00001-of-00003.gguf"),
            "{fault}"
        );
    }
}

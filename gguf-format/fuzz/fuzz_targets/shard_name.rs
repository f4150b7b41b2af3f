//! A shard's name leads to itself, and never to another folder.

#![no_main]

use gguf_format::split::ShardName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &str| {
    let Ok(shard) = ShardName::parse(name) else {
        return;
    };
    assert_eq!(shard.to_string(), name);
    for sibling in shard.siblings().take(3) {
        assert!(!sibling.contains(['/', '\\']));
        assert_eq!(
            ShardName::parse(&sibling).map(|s| s.count()).ok(),
            Some(shard.count())
        );
    }
});

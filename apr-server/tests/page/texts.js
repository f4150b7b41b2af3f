// What the mock server says: all of Markdown, all that is hostile in it, and something to
// look at.

export const MARKDOWN = `# A title

Some *emphasis*, **strength**, ~~regret~~, \`code\` and [a link](https://example.org/page).
AT&amp;T is written with an ampersand.

1. first
2. second
   - inner

- [ ] open
- [x] done

> quoted

| name | size |
|:-----|-----:|
| a    |   10 |

\`\`\`rust
fn main() {
    println!("hello"); // said
}
\`\`\`

The end,
in two lines.
`

export const HOSTILE = `<script>alert('script')</script>
<img src="https://outside.example/a.png" onerror="alert('img')">
<iframe src="https://outside.example/frame"></iframe>
<svg onload="alert('svg')"></svg>
<style>body { display: none }</style>

An image: ![picture](https://outside.example/b.png "title") and [script](javascript:alert('link')),
[entity](javascript&colon;alert('entity')), [data](data:text/html,<script>alert('data')</script>),
[tab](java&#9;script:alert('tab')), <javascript:alert('auto')>, [file](file:///etc/passwd),
[relative](/v1/models), [quote](https://ok.example/"onmouseover="alert('quote')).

<b onclick="alert('b')">bold</b> <form action="https://outside.example/"><input name=q></form>
<meta http-equiv="refresh" content="0;url=https://outside.example/">
<link rel="stylesheet" href="https://outside.example/c.css"><base href="https://outside.example/">

\`\`\`html"><script>alert('language')</script>
<script>alert('code')</script>
\`\`\`

| <img src=x onerror=alert('cell')> |
|---|
| ![t](https://outside.example/d.png) |

</div></main></body> still here
`

export const RECIPE = `A prefix cache keeps what was computed for the start of a prompt, so that the next turn reads only what is new. Three parts make it work:

1. **Blocks.** Keys and values are kept in blocks of a fixed number of tokens.
2. **Names.** A block is found by the hash of *all* tokens up to its end, so an equal name means an equal past.
3. **Counts.** Requests that share a block count it; the least recently used goes first.

In Rust the name of a block is a fold over its tokens:

\`\`\`rust
/// Names a block by its tokens and by the block before it.
fn name(before: u64, tokens: &[u32]) -> u64 {
    let mut hash = before;
    for token in tokens {
        // The past is part of the name.
        hash = hash.rotate_left(5).wrapping_mul(0x9e37_79b9) ^ u64::from(*token);
    }
    hash
}
\`\`\`

What that saves on the second turn of a conversation of 2,000 tokens:

| | tokens read | time |
|:--|--:|--:|
| without a cache | 2,048 | 25.2 s |
| with one | 236 | 2.9 s |

The answer is the same in both cases, bit by bit.
`

// Server-sent events: bytes in, the data of each event out.
//
// The idea: decode as UTF-8 with a decoder that keeps half characters, cut at line feeds,
// collect `data:` lines until an empty line. Comments (the server's pings), other fields and
// an event that the connection's end cuts off are dropped, as the HTML standard says.

/** Yields the data of each event of a response's body, a `ReadableStream` of bytes. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  let data = []
  try {
    for (;;) {
      const { value, done } = await reader.read()
      if (done) return
      const lines = (rest + value).split('\n')
      rest = lines.pop()
      for (const ended of lines) {
        const line = ended.endsWith('\r') ? ended.slice(0, -1) : ended
        if (line.startsWith('data:')) {
          data.push(line.slice(line[5] === ' ' ? 6 : 5))
        } else if (line === '' && data.length > 0) {
          yield data.join('\n')
          data = []
        }
      }
    }
  } finally {
    // Whoever stops listening frees the connection. It may be broken already.
    reader.cancel().catch(() => {})
  }
}

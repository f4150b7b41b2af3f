// What the mock server answers: steps, chosen by words in the last message.
//
// A step is `{data}` or `{comment}` of the event stream, `{pause: ms}`, `{refuse: status, …}`
// in place of a stream, or `{cut: true}` for a connection that breaks.

import { MARKDOWN, HOSTILE, RECIPE } from './texts.js'

const MODEL = 'qwen3-30b-a3b'

/** Yields the steps that answer a request. */
export async function* answerTo(body) {
  const said = body.messages.at(-1).content
  const has = (word) => said.toLowerCase().includes(word)
  if (has('too long')) {
    yield { refuse: 400, message: 'the prompt has 40,000 tokens, the context 32,768', type: 'invalid_request_error', code: 'context_length_exceeded' }
  } else if (has('queue full')) {
    yield { refuse: 429, message: 'the queue is full', type: 'rate_limit_error', code: 'queue_full', headers: { 'retry-after': '3' } }
  }
  if (has('slow prompt')) yield* prefill()
  if (has('think')) yield* thoughts('The user wants to know something. First I look at it from one side, then from the other.')
  if (has('forever')) yield* forever()
  else if (has('break after')) yield* brokenOff()
  else if (has('cut off')) yield* cutOff()
  else yield* words(text(said, body))
  yield* end(body)
}

function text(said, body) {
  const has = (word) => said.toLowerCase().includes(word)
  if (has('hostile')) return HOSTILE
  if (has('markdown')) return MARKDOWN
  if (has('recipe')) return RECIPE
  if (has('many lines')) return Array.from({ length: 120 }, (_, at) => `Paragraph ${at + 1} of many.`).join('\n\n')
  if (has('nested')) return '>'.repeat(5000) + ' deep'
  if (has('count')) return `This is answer number ${body.messages.length}.`
  return `You said: ${said}`
}

function chunk(delta, finish_reason = null) {
  const choices = [{ index: 0, delta, finish_reason }]
  return { data: { id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1_764_000_000, model: MODEL, choices } }
}

async function* prefill() {
  for (const processed of [1400, 1600, 1800, 2048]) {
    const prompt_progress = { total: 2048, cache: 1400, processed, time_ms: processed }
    yield { data: { ...chunk({}).data, prompt_progress } }
    yield { comment: 'ping' }
    yield { pause: 250 }
  }
}

async function* thoughts(text) {
  for (const reasoning_content of text.match(/\S+\s*/g)) {
    yield chunk({ reasoning_content })
    yield { pause: 20 }
  }
}

async function* words(text) {
  for (const content of text.match(/\S+\s*|\s+/g)) {
    yield chunk({ content })
    yield { pause: text.length > 1000 ? 2 : 20 }
  }
}

async function* forever() {
  for (let n = 1; ; n += 1) {
    yield chunk({ content: `word ${n} ` })
    yield { pause: 20 }
  }
}

async function* brokenOff() {
  yield* words('Half of an')
  yield { data: { error: { message: 'the server is stopping', type: 'server_error', param: null, code: 'draining' } } }
  yield { data: '[DONE]' }
}

async function* cutOff() {
  yield* words('Half of an')
  yield { cut: true }
}

async function* end({ messages }) {
  yield chunk({}, 'stop')
  const cached_tokens = messages.length > 1 ? 1812 : 0
  const usage = { prompt_tokens: 2048, completion_tokens: 214, total_tokens: 2262, prompt_tokens_details: { cached_tokens } }
  const timings = {
    cache_n: cached_tokens, prompt_n: 2048 - cached_tokens, prompt_ms: 2900, prompt_per_second: 81.4,
    predicted_n: 214, predicted_ms: 17_258, predicted_per_second: 12.4,
  }
  yield { data: { ...chunk({}).data, choices: [], usage, timings } }
  yield { data: '[DONE]' }
}

// What the server is asked, and how its errors are told. Paths are relative to the page, so
// that it works behind a proxy that serves it under a prefix.

import { apiKey } from './key.js'
import { events } from './stream.js'

/** The server refused or failed. `status` is 0 where there was no answer at all. */
export class ServerError extends Error {
  constructor(message, { status = 0, code = null, retryAfter = null } = {}) {
    super(message)
    this.name = 'ServerError'
    this.status = status
    this.code = code
    /** Seconds, where the server says when to come back. */
    this.retryAfter = retryAfter
  }
}

/** Returns whether the server is up: `'ready'`, `'loading'` or `'unreachable'`. */
export async function health() {
  try {
    await request('health')
    return 'ready'
  } catch (error) {
    if (error.status === 0) return 'unreachable'
    // A server that asks for a key, or has no such path, is up all the same.
    return error.status === 503 ? 'loading' : 'ready'
  }
}

/** Returns the models: objects with `id` and, where the server says so, `meta.n_ctx`. */
export async function models() {
  const { data } = await (await request('v1/models')).json()
  return Array.isArray(data) ? data.filter((model) => typeof model?.id === 'string') : []
}

/** Returns what the server tells of itself, `{}` where it tells nothing. */
export async function props() {
  try {
    return (await (await request('props')).json()) ?? {}
  } catch (error) {
    if (error.status === 401) throw error
    return {}
  }
}

/**
 * Yields the chunks of a streamed chat completion.
 *
 * Throws a `ServerError` for an error before or after the headers and for a stream that ends
 * too early, an `AbortError` when `signal` says stop.
 */
export async function* chat(body, signal) {
  const response = await request('v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal,
  })
  try {
    for await (const data of events(response.body)) {
      if (data === '[DONE]') return
      const chunk = parsed(data)
      if (chunk.error) throw fromBody(chunk, response.status)
      yield chunk
    }
  } catch (error) {
    if (error instanceof ServerError || signal.aborted) throw error
    throw new ServerError('The connection broke before the answer was complete.')
  }
  throw new ServerError('The answer ended before it was complete.')
}

async function request(path, options = {}) {
  const key = apiKey()
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) }
  let response
  try {
    response = await fetch(new URL(path, document.baseURI), { ...options, headers, cache: 'no-store' })
  } catch (error) {
    if (options.signal?.aborted) throw error
    throw new ServerError('The server does not answer.')
  }
  if (response.ok) return response
  const body = await response.json().catch(() => null)
  throw fromBody(body, response.status, response.headers.get('retry-after'))
}

function parsed(data) {
  try {
    return JSON.parse(data) ?? {}
  } catch {
    throw new ServerError('The server sent something that is not JSON.')
  }
}

function fromBody(body, status, retryAfter = null) {
  const { message, code } = typeof body?.error === 'string' ? { message: body.error } : (body?.error ?? {})
  const text = typeof message === 'string' && message !== '' ? message : `The server answered ${status}.`
  const seconds = retryAfter !== null && /^\d+$/.test(retryAfter) ? Number(retryAfter) : null
  return new ServerError(text, { status, code, retryAfter: seconds })
}

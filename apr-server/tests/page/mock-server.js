// A server with no model behind it: the page's files and the part of the API that the page
// uses, in the forms the real server has. What it answers is chosen by words in the last
// message (see `scenarios.js`), so that a test reads as a conversation.

import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

import { answerTo } from './scenarios.js'

const PAGE = fileURLToPath(new URL('../../page/', import.meta.url))
const TYPES = { '.html': 'text/html; charset=utf-8', '.css': 'text/css', '.js': 'text/javascript', '.svg': 'image/svg+xml' }
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

const pause = (ms) => new Promise((wake) => setTimeout(wake, ms))

/**
 * Starts a server on a free port, or on `port`.
 *
 * It wants `apiKey` if one is given, is loading for `loadingMs`, offers `models`, and has a
 * template that knows of thinking if it `thinks`. The result counts what tests ask about.
 */
export async function startMock({ port = 0, apiKey = null, loadingMs = 0, models = ['qwen3-30b-a3b'], thinks = true } = {}) {
  const readyAt = Date.now() + loadingMs
  const seen = { bodies: [], aborted: 0 }
  let wantedKey = apiKey

  async function respond(request, response) {
    const { pathname } = new URL(request.url, 'http://page')
    if (pathname === '/' || pathname.startsWith('/assets/')) return sendFile(pathname, response)
    if (Date.now() < readyAt) return sendError(response, 503, 'loading model', 'unavailable_error', null)
    if (pathname === '/health') return sendJson(response, 200, { status: 'ok' })
    if (wantedKey !== null && request.headers.authorization !== `Bearer ${wantedKey}`) {
      return sendError(response, 401, 'invalid API key', 'authentication_error', 'invalid_api_key')
    }
    if (pathname === '/v1/models') return sendJson(response, 200, modelList(models))
    if (pathname === '/props') return sendJson(response, 200, properties(thinks))
    if (pathname === '/v1/chat/completions' && request.method === 'POST') return complete(request, response, seen)
    sendError(response, 404, `no such path: ${pathname}`, 'invalid_request_error', 'not_found')
  }

  const server = createServer((request, response) => {
    respond(request, response).catch((error) => response.destroy(error))
  })
  await new Promise((listening) => server.listen(port, '127.0.0.1', listening))
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    seen,
    /** Wants another key from now on. */
    changeKey(key) {
      wantedKey = key
    },
    close() {
      server.closeAllConnections()
      return new Promise((closed) => server.close(closed))
    },
  }
}

async function sendFile(pathname, response) {
  const path = normalize(pathname === '/' ? 'index.html' : decodeURIComponent(pathname.slice('/assets/'.length)))
  const type = TYPES[extname(path)]
  const bytes = path.startsWith('..') || !type ? null : await readFile(join(PAGE, path)).catch(() => null)
  if (bytes === null) return sendError(response, 404, 'no such file', 'invalid_request_error', 'not_found')
  response.writeHead(200, { 'content-type': type, 'content-security-policy': POLICY, 'x-content-type-options': 'nosniff', 'cache-control': 'no-cache' })
  response.end(bytes)
}

function sendJson(response, status, value, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify(value))
}

function sendError(response, status, message, type, code, headers) {
  sendJson(response, status, { error: { message, type, param: null, code } }, headers)
}

function modelList(ids) {
  const data = ids.map((id) => ({ id, object: 'model', created: 1_764_000_000, owned_by: 'apr', meta: { n_ctx: 32_768 } }))
  return { object: 'list', data }
}

function properties(thinks) {
  return {
    default_generation_settings: { n_ctx: 32_768, temperature: 0.7, top_p: 0.8, top_k: 20, min_p: 0 },
    model_alias: 'qwen3-30b-a3b',
    chat_template: thinks ? '{%- if enable_thinking is defined and enable_thinking is false %}' : '{{ messages }}',
  }
}

async function complete(request, response, seen) {
  let text = ''
  for await (const part of request) text += part
  const body = JSON.parse(text)
  seen.bodies.push(body)
  let isGone = false
  response.on('close', () => {
    isGone = !response.writableFinished
    if (isGone) seen.aborted += 1
  })
  for await (const step of answerTo(body)) {
    if (isGone) return
    if (step.pause) await pause(step.pause)
    else if (step.refuse) return sendError(response, step.refuse, step.message, step.type, step.code, step.headers)
    else if (step.cut) return response.destroy()
    else send(response, step)
  }
  response.end()
}

function send(response, { comment, data }) {
  if (!response.headersSent) response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
  response.write(comment ? `: ${comment}\n\n` : `data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`)
}

// `node mock-server.js` serves it for a look by hand.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await startMock({ port: Number(process.env.PORT ?? 8090) })
  console.log(url)
}

// What the user may set, what is allowed, and what a request gets of it. An empty field is
// not sent, so that the server's own choice holds.

const NAME = 'apr.settings'

/** The numbers that shape an answer. */
export const NUMBERS = [
  { name: 'temperature', label: 'Temperature', min: 0, max: 5, whole: false },
  { name: 'top_p', label: 'Top p', min: 0, max: 1, whole: false },
  { name: 'top_k', label: 'Top k', min: 0, max: 1_000_000, whole: true },
  { name: 'min_p', label: 'Min p', min: 0, max: 1, whole: false },
  { name: 'max_tokens', label: 'Longest answer, in tokens', min: 1, max: 10_000_000, whole: true },
  { name: 'seed', label: 'Seed', min: 0, max: 4_294_967_295, whole: true },
]

const EMPTY = { system: '', model: '', thinking: true, temperature: null, top_p: null, top_k: null, min_p: null, max_tokens: null, seed: null }

/** Returns the number that a field holds, `null` if it is empty; throws a sentence. */
export function parseNumber({ label, min, max, whole }, text) {
  if (text.trim() === '') return null
  const value = Number(text.trim().replace(',', '.'))
  const kind = whole ? 'a whole number' : 'a number'
  if (!(value >= min && value <= max) || (whole && !Number.isInteger(value))) {
    throw new Error(`${label} is ${kind} from ${min} to ${max}.`)
  }
  return value
}

/** Returns the settings of this browser; what is not understood counts as not set. */
export function loadSettings() {
  const settings = { ...EMPTY }
  try {
    const kept = JSON.parse(localStorage.getItem(NAME)) ?? {}
    for (const name of ['system', 'model']) {
      if (typeof kept[name] === 'string') settings[name] = kept[name]
    }
    if (typeof kept.thinking === 'boolean') settings.thinking = kept.thinking
    for (const field of NUMBERS) {
      if (typeof kept[field.name] === 'number') settings[field.name] = parseNumber(field, String(kept[field.name]))
    }
  } catch {
    return { ...EMPTY }
  }
  return settings
}

/** Keeps the settings. Throws where the browser refuses to store anything. */
export function saveSettings(settings) {
  localStorage.setItem(NAME, JSON.stringify(settings))
}

/** Returns the body of a request for an answer to these messages. */
export function requestBody(messages, settings, server) {
  const body = {
    model: server.models.includes(settings.model) ? settings.model : server.models[0],
    messages: [
      ...(settings.system.trim() === '' ? [] : [{ role: 'system', content: settings.system }]),
      // An answer that broke off before its first word was not said.
      ...messages.filter(({ content }) => content !== '').map(({ role, content }) => ({ role, content })),
    ],
    stream: true,
    stream_options: { include_usage: true },
    return_progress: true,
  }
  for (const { name } of NUMBERS) {
    if (settings[name] !== null) body[name] = settings[name]
  }
  if (server.canThink) body.chat_template_kwargs = { enable_thinking: settings.thinking }
  return body
}

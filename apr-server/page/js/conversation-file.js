// Conversations as a file, and what a conversation must look like to be let in. A file is
// anyone's bytes: it is checked field by field, and nothing unknown is taken over.

import { emptyAnswer } from './answer.js'

const FORMAT = 'apr-conversations'
const VERSION = 1

/** Returns the text of a file with these conversations. */
export function write(conversations) {
  return JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 2)
}

/** Reads the text of a file; throws an error that says what is wrong and where. */
export function read(text) {
  let file
  try {
    file = JSON.parse(text)
  } catch (error) {
    throw new Error(`This file is not JSON: ${error.message}`)
  }
  if (file?.format !== FORMAT) throw new Error('This file holds no conversations of this page.')
  if (file.version !== VERSION) throw new Error(`This file has version ${file.version}; this page reads version ${VERSION}.`)
  if (!Array.isArray(file.conversations)) throw new Error('`conversations` is not a list.')
  return file.conversations.map((value, at) => conversation(value, `Conversation ${at + 1}`))
}

function conversation(value, where) {
  const { id, title, created, updated, messages } = value ?? {}
  if (typeof id !== 'string' || !/^[\w-]{1,64}$/.test(id)) throw new Error(`${where}: \`id\` is not a name.`)
  if (typeof title !== 'string') throw new Error(`${where}: \`title\` is not a text.`)
  if (!Number.isFinite(created) || !Number.isFinite(updated)) throw new Error(`${where}: a time is not a number.`)
  if (!Array.isArray(messages)) throw new Error(`${where}: \`messages\` is not a list.`)
  const checked = messages.map((entry, at) => message(entry, `${where}, message ${at + 1}`))
  return { id, title, created, updated, messages: checked }
}

function message(value, where) {
  const { role, content } = value ?? {}
  if (typeof content !== 'string') throw new Error(`${where}: \`content\` is not a text.`)
  if (role === 'user') return { role, content }
  if (role !== 'assistant') throw new Error(`${where}: \`role\` is neither user nor assistant.`)
  const answer = { ...emptyAnswer(), content }
  for (const field of ['reasoning', 'model', 'finish', 'error']) {
    if (typeof value[field] === 'string') answer[field] = value[field]
  }
  if (Number.isFinite(value.reasoning_ms)) answer.reasoning_ms = value.reasoning_ms
  answer.figures = figures(value.figures)
  return answer
}

function figures(value) {
  if (typeof value !== 'object' || value === null) return null
  const number = (field) => (Number.isFinite(value[field]) ? value[field] : null)
  return {
    prompt_tokens: number('prompt_tokens'),
    cached_tokens: number('cached_tokens'),
    completion_tokens: number('completion_tokens'),
    tok_s: number('tok_s'),
  }
}

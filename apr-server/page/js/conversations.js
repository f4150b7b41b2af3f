// The conversations: all of them in memory, each change written to the store, and a word to
// the other tabs of this browser.
//
// A conversation is `{id, title, created, updated, messages}`, times in milliseconds. A
// message is `{role: 'user', content}` or an answer (answer.js).

import { forgetfulStore, openStore } from './store.js'

const LONGEST_TITLE = 60
/** How long a change that many more will follow may wait before it is written. */
const WRITE_SOON_MS = 800

/** Dispatches `change` (detail: id) and `trouble` (detail: a sentence) events. */
export class Conversations extends EventTarget {
  #byId = new Map()
  #store = forgetfulStore()
  #timers = new Map()
  #tabs = new BroadcastChannel('apr.conversations')
  /** Whether an answer to a conversation is arriving in this tab, which then knows best. */
  isRunning = () => false

  /** Reads what is kept. Where that fails, says so and goes on without. */
  async load() {
    try {
      this.#store = await openStore()
      for (const kept of await this.#store.all()) this.#byId.set(kept.id, kept)
    } catch (error) {
      this.#trouble(`This browser keeps nothing for this page (${error?.name}). Conversations last until you close the tab.`)
    }
    this.#tabs.onmessage = ({ data }) => this.#reread(data)
    addEventListener('pagehide', () => this.writeAll())
  }

  /** All of them, the latest first. */
  get list() {
    return [...this.#byId.values()].sort((a, b) => b.updated - a.updated)
  }

  /** Returns the conversation with this id, or `undefined`. */
  find(id) {
    return this.#byId.get(id)
  }

  /** Starts a conversation that is named after its first message. */
  create(firstMessage) {
    const now = Date.now()
    const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, '0')).join('')
    const conversation = { id, title: titleFrom(firstMessage), created: now, updated: now, messages: [] }
    this.#byId.set(id, conversation)
    return conversation
  }

  /** Writes a conversation and tells the page. */
  changed(conversation) {
    conversation.updated = Date.now()
    this.#write(conversation)
    this.#tell(conversation.id)
  }

  /** Writes a conversation within a second: for an answer that arrives word by word. */
  changing(conversation) {
    if (this.#timers.has(conversation.id)) return
    this.#timers.set(conversation.id, setTimeout(() => this.#write(conversation), WRITE_SOON_MS))
  }

  /** Writes now what waits to be written. */
  writeAll() {
    for (const id of [...this.#timers.keys()]) this.#write(this.#byId.get(id))
  }

  rename(conversation, title) {
    conversation.title = title
    this.#write(conversation)
    this.#tell(conversation.id)
  }

  /** Removes conversations; `add` brings them back. */
  remove(conversations) {
    for (const { id } of conversations) {
      this.#cancelTimer(id)
      this.#byId.delete(id)
      this.#keep(this.#store.delete(id), id)
      this.#tell(id)
    }
  }

  /** Adds conversations as they are, in place of those with the same ids. */
  add(conversations) {
    for (const conversation of conversations) {
      this.#byId.set(conversation.id, conversation)
      this.#write(conversation)
      this.#tell(conversation.id)
    }
  }

  #write(conversation) {
    if (!conversation || this.#byId.get(conversation.id) !== conversation) return
    this.#cancelTimer(conversation.id)
    this.#keep(this.#store.put(conversation), conversation.id)
  }

  /** Waits for the disk, tells the other tabs, or says what is wrong. */
  async #keep(writing, id) {
    try {
      await writing
      this.#tabs.postMessage(id)
    } catch (error) {
      const full = error?.name === 'QuotaExceededError'
      this.#trouble(full ? 'This browser’s storage is full, so the conversation is not kept. Export it, or delete others.' : `The conversation could not be kept: ${error?.message}`)
    }
  }

  async #reread(id) {
    if (this.isRunning(id)) return
    const kept = await this.#store.get(id).catch(() => undefined)
    if (kept) this.#byId.set(id, kept)
    else this.#byId.delete(id)
    this.dispatchEvent(new CustomEvent('change', { detail: { id, elsewhere: true } }))
  }

  #cancelTimer(id) {
    clearTimeout(this.#timers.get(id))
    this.#timers.delete(id)
  }

  #tell(id) {
    this.dispatchEvent(new CustomEvent('change', { detail: { id, elsewhere: false } }))
  }

  #trouble(sentence) {
    this.dispatchEvent(new CustomEvent('trouble', { detail: sentence }))
  }
}

/** Returns the first line of a message, cut between words. */
export function titleFrom(text) {
  const line = text.trim().split('\n', 1)[0].trim()
  if (line.length <= LONGEST_TITLE) return line
  const cut = line.slice(0, LONGEST_TITLE)
  const space = cut.lastIndexOf(' ')
  return `${space > LONGEST_TITLE / 2 ? cut.slice(0, space) : cut}…`
}

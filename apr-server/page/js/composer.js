// The box at the foot: write, send, stop, think first or not.

import { byId } from './dom.js'
import { enterSends, isSend } from './keys.js'
import { growing } from './text-box.js'

const DRAFT = 'apr.draft'
const STATES = {
  connecting: 'Connecting…',
  loading: 'The model is loading…',
  away: 'The server is stopping or starting anew. Trying again…',
  unreachable: 'The server does not answer. Trying again…',
  locked: 'The server asks for a key.',
  ready: '',
}

/** Dispatches `send` (detail: the text), `stop` and `thinking` (detail: whether). */
export class Composer extends EventTarget {
  #prompt = byId('prompt')
  #phase = 'connecting'
  #isRunning = false

  constructor() {
    super()
    byId('keys').hidden = !enterSends
    try {
      this.#prompt.value = sessionStorage.getItem(DRAFT) ?? ''
    } catch {
      // No draft is kept.
    }
    growing(this.#prompt)
    this.#prompt.addEventListener('input', () => this.#show())
    this.#prompt.addEventListener('keydown', (event) => {
      if (!isSend(event)) return
      event.preventDefault()
      this.#send()
    })
    byId('composer').addEventListener('submit', (event) => {
      event.preventDefault()
      this.#send()
    })
    byId('stop').addEventListener('click', () => this.dispatchEvent(new Event('stop')))
    byId('thinking').addEventListener('click', ({ currentTarget }) => {
      const thinks = currentTarget.getAttribute('aria-pressed') !== 'true'
      this.dispatchEvent(new CustomEvent('thinking', { detail: thinks }))
    })
    this.#show()
  }

  /** Shows what can be done now. */
  update({ phase, isRunning, canThink, thinks }) {
    this.#phase = phase
    this.#isRunning = isRunning
    byId('thinking').hidden = !canThink
    byId('thinking').setAttribute('aria-pressed', String(thinks))
    byId('server-state').textContent = STATES[phase]
    this.#show()
  }

  focus() {
    this.#prompt.focus()
  }

  #send() {
    const text = this.#prompt.value.trim()
    if (text === '' || byId('send').disabled || this.#isRunning) return
    this.#set('')
    this.dispatchEvent(new CustomEvent('send', { detail: text }))
  }

  #set(text) {
    this.#prompt.value = text
    this.#prompt.dispatchEvent(new Event('input'))
  }

  #show() {
    const hadFocus = [byId('stop'), byId('send')].includes(document.activeElement)
    byId('stop').hidden = !this.#isRunning
    byId('send').hidden = this.#isRunning
    byId('send').disabled = this.#phase !== 'ready' || this.#prompt.value.trim() === ''
    // A button that vanishes takes the focus with it.
    if (hadFocus && (document.activeElement === document.body || document.activeElement.hidden || document.activeElement.disabled)) this.focus()
    try {
      sessionStorage.setItem(DRAFT, this.#prompt.value)
    } catch {
      // No draft is kept.
    }
  }
}

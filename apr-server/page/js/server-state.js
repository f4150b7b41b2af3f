// Whether the server is there, what it runs, and how that is found out: asked until it is
// ready, then no more until a request fails.

import { health, models, props } from './api.js'

const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 5000

/** Dispatches `change` whenever one of its fields has changed. */
export class ServerState extends EventTarget {
  /**
   * `'connecting'`, `'loading'`, `'away'` (not ready any more), `'unreachable'`, `'locked'` (it
   * wants a key) or `'ready'`.
   */
  phase = 'connecting'
  /** Ids of the models it offers. */
  models = []
  /** What it uses where a request says nothing: `temperature`, `top_p`, … */
  defaults = {}
  /** Whether the model's template can be told to think or not to think. */
  canThink = false

  #asking = false
  #wasReady = false

  /** Asks until the server is ready or wants a key. */
  async connect() {
    if (this.#asking) return
    this.#asking = true
    for (let pause = FIRST_PAUSE_MS; !(await this.#ask()); pause = Math.min(pause * 1.5, LONGEST_PAUSE_MS)) {
      await new Promise((wake) => setTimeout(wake, pause))
    }
    this.#asking = false
  }

  async #ask() {
    const phase = await health()
    if (phase !== 'ready') return this.#become(phase === 'loading' && this.#wasReady ? 'away' : phase)
    try {
      const [offered, told] = await Promise.all([models(), props()])
      this.models = offered.map((model) => model.id)
      this.defaults = told.default_generation_settings?.params ?? told.default_generation_settings ?? {}
      this.canThink = String(told.chat_template ?? '').includes('enable_thinking')
      return this.#become('ready')
    } catch (error) {
      return this.#become(error.status === 401 ? 'locked' : 'unreachable')
    }
  }

  /** Returns whether asking is over. */
  #become(phase) {
    this.phase = phase
    this.#wasReady ||= phase === 'ready'
    this.dispatchEvent(new Event('change'))
    return phase === 'ready' || phase === 'locked'
  }
}

// An answer: how far the prompt is read, what was thought (folded), what is said, and the
// quiet line below it.

import { copyFrom } from './clipboard.js'
import { element, iconButton } from './dom.js'
import { duration, reading, summary } from './figures.js'
import { Markdown } from './markdown.js'

/** One answer. `again(message)` is called when another is wanted in its place. */
export class AnswerView {
  #live = element('p', { class: 'live' })
  #bar = element('progress', { 'aria-label': 'Prompt read', hidden: true })
  #thinkingTitle = element('summary')
  #thought = element('div', { class: 'thought' })
  #thinking = element('details', { class: 'thinking', hidden: true }, this.#thinkingTitle, this.#thought)
  #text = element('div', { class: 'markdown' })
  #errorText = element('span')
  #error
  #summary = element('p', { class: 'summary' })
  #foot
  #markdown = new Markdown(this.#text)
  #isComplete = false

  constructor(message, { again }) {
    this.message = message
    const copy = iconButton('copy', 'Copy answer', () => copyFrom(copy, () => message.content))
    const anew = iconButton('again', 'Regenerate answer', () => again(message))
    this.#foot = element('div', { class: 'foot' }, this.#summary, element('div', { class: 'actions' }, copy, anew))
    const retry = element('button', { type: 'button', onclick: () => again(message) }, 'Try again')
    this.#error = element('div', { class: 'error', hidden: true }, this.#errorText, retry)
    const parts = [element('h2', { class: 'hidden' }, 'Answer'), this.#thinking, this.#live, this.#bar, this.#text, this.#error, this.#foot]
    this.element = element('article', { class: 'message answer', 'aria-label': 'Answer' }, ...parts)
  }

  /** Shows what has arrived. `live` is the `LiveAnswer` while it is on its way. */
  update(live) {
    if (this.#isComplete && !live) return
    this.#isComplete = !live
    this.element.setAttribute('aria-busy', String(Boolean(live)))
    this.#showWaiting(live)
    this.#showThinking(live)
    this.#markdown.show(this.message.content, !live)
    const { error } = this.message
    this.#error.hidden = error === null
    this.#errorText.textContent = error ?? ''
    const saysNothing = error !== null && this.message.content === ''
    this.#foot.hidden = Boolean(live) || saysNothing
    this.#summary.textContent = live ? '' : summary(this.message)
  }

  #showWaiting(live) {
    const isReading = live?.phase === 'reading'
    this.#live.hidden = live?.phase !== 'waiting' && !isReading
    this.#bar.hidden = !isReading
    if (isReading) {
      this.#live.textContent = reading(live.progress)
      this.#bar.max = live.progress.total
      this.#bar.value = live.progress.processed
    } else {
      this.#live.textContent = 'Waiting…'
    }
  }

  #showThinking(live) {
    const { reasoning, reasoning_ms: ms } = this.message
    this.#thinking.hidden = reasoning === ''
    if (reasoning === '') return
    const isLive = live?.phase === 'thinking'
    this.#thinking.classList.toggle('is-live', isLive)
    if (isLive) this.#thinkingTitle.textContent = `Thinking… ${duration(live.thinkingMs(performance.now()))}`
    else this.#thinkingTitle.textContent = ms > 0 ? `Thought for ${duration(ms)}` : 'Thought'
    const shown = this.#thought.firstChild
    if (shown && reasoning.startsWith(shown.data)) shown.appendData(reasoning.slice(shown.length))
    else this.#thought.textContent = reasoning
  }
}

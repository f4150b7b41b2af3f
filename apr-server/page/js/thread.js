// The messages of the conversation that is shown, redrawn at most once a frame, and the
// scrolling: new text is followed only by those who are at its end.

import { AnswerView } from './answer-view.js'
import { byId } from './dom.js'
import { UserView } from './user-view.js'

/** Nearer to the end than this counts as at the end, in pixels. */
const AT_END = 48

/** A drawing that takes longer is not repeated every frame. */
const SLOW_MS = 8

/** How long a thinking time may stand still, in milliseconds. */
const TICK_MS = 250

export class Thread {
  #scroller = byId('thread')
  #list = byId('messages')
  #views = []
  #messages = []
  #turn = null
  #frame = 0
  #pause = 0
  /** What the last drawing took, in milliseconds. */
  #cost = 0
  #follows = true
  #top = 0
  #handlers

  /** `handlers` are `edit(message, text)` and `again(message)`. */
  constructor(handlers) {
    this.#handlers = handlers
    this.#scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true })
    byId('to-latest').addEventListener('click', () => {
      this.toEnd()
      byId('prompt').focus()
    })
    new ResizeObserver(() => this.#follow()).observe(this.#scroller)
    setInterval(() => this.#turn && this.refresh(), TICK_MS)
  }

  /** Shows these messages; `turn` fills the last of them, or is `null`. */
  show(messages, turn) {
    this.#messages = messages
    this.#turn = turn
    byId('welcome').hidden = messages.length > 0
    this.#draw()
  }

  /** Shows in the next frame what has arrived; later where drawing would take all the time. */
  refresh() {
    if (this.#frame || this.#pause) return
    const frame = () => {
      this.#pause = 0
      this.#frame = requestAnimationFrame(() => this.#draw())
    }
    if (this.#cost > SLOW_MS) this.#pause = setTimeout(frame, 3 * this.#cost)
    else frame()
  }

  /** Goes to the end, and stays there. */
  toEnd() {
    this.#follows = true
    this.#follow()
  }

  #draw() {
    cancelAnimationFrame(this.#frame)
    this.#frame = 0
    const start = performance.now()
    const same = this.#views.findIndex((view, at) => view.message !== this.#messages[at])
    for (const view of same < 0 ? [] : this.#views.splice(same)) view.element.remove()
    for (const message of this.#messages.slice(this.#views.length)) {
      const View = message.role === 'user' ? UserView : AnswerView
      const view = new View(message, this.#handlers)
      this.#views.push(view)
      this.#list.append(view.element)
    }
    for (const view of this.#views) view.update(view.message === this.#turn?.message ? this.#turn.live : null)
    this.#follow()
    this.#cost = performance.now() - start
  }

  #follow() {
    if (this.#follows) this.#scroller.scrollTop = this.#scroller.scrollHeight
    this.#top = this.#scroller.scrollTop
    this.#showWay()
  }

  /** A way up, however short, ends the following; the way down to the end begins it. */
  #scrolled() {
    const { scrollTop } = this.#scroller
    if (scrollTop < this.#top && this.#distance() > 2) this.#follows = false
    else if (this.#distance() < AT_END) this.#follows = true
    this.#top = scrollTop
    this.#showWay()
  }

  #showWay() {
    byId('to-latest').hidden = this.#distance() < AT_END
  }

  #distance() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller
    return scrollHeight - scrollTop - clientHeight
  }
}

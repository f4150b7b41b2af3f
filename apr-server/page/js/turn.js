// One answer on its way: from the request to the last chunk, an error or a stop.

import { LiveAnswer, emptyAnswer } from './answer.js'
import { chat } from './api.js'

/** Dispatches `progress` for every change and `end` once. */
export class Turn extends EventTarget {
  #abort = new AbortController()

  /** Appends an empty answer to a conversation, to be filled by `run`. */
  constructor(conversation) {
    super()
    this.conversation = conversation
    this.message = emptyAnswer()
    this.live = new LiveAnswer(this.message)
    /** The `ServerError` that ended it, if one did. */
    this.error = null
    conversation.messages.push(this.message)
  }

  /** Asks for the answer, and returns when it is over. */
  async run(body) {
    this.message.model = body.model ?? ''
    try {
      for await (const chunk of chat(body, this.#abort.signal)) {
        this.live.take(chunk, performance.now())
        this.dispatchEvent(new Event('progress'))
      }
    } catch (error) {
      this.#fail(error)
    }
    this.live.end(performance.now())
    // A server that names no reason has finished.
    this.message.finish ??= 'stop'
    this.dispatchEvent(new Event('end'))
  }

  /** Stops it; what has arrived stays. */
  stop() {
    this.#abort.abort()
  }

  #fail(error) {
    if (this.#abort.signal.aborted) {
      this.message.finish = 'stopped'
      return
    }
    this.error = error
    this.message.finish = 'error'
    this.message.error = sentence(error)
  }
}

function sentence({ message, retryAfter }) {
  const text = message.endsWith('.') ? message : `${message}.`
  const start = text[0].toUpperCase() + text.slice(1)
  return retryAfter === null || retryAfter === undefined ? start : `${start} It asks to wait for ${retryAfter} s.`
}

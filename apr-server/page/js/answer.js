// An answer while it arrives: chunks in, a message to keep and a few live figures out.

/** Returns an answer of which nothing has arrived. */
export function emptyAnswer() {
  return { role: 'assistant', content: '', reasoning: '', reasoning_ms: 0, model: '', finish: null, error: null, figures: null }
}

/** Fills an answer. Times are milliseconds of one clock. */
export class LiveAnswer {
  /** `{total, cache, processed}` in tokens while the prompt is read, else `null`. */
  progress = null
  #firstAt = null
  #lastAt = null

  constructor(message) {
    this.message = message
  }

  /** `'waiting'`, `'reading'`, `'thinking'` or `'answering'`. */
  get phase() {
    if (this.message.content !== '') return 'answering'
    if (this.message.reasoning !== '') return 'thinking'
    return this.progress ? 'reading' : 'waiting'
  }

  /** Returns for how long the model has been thinking. */
  thinkingMs(now) {
    return this.phase === 'thinking' ? now - this.#firstAt : this.message.reasoning_ms
  }

  /** Takes one chunk of the stream. */
  take(chunk, now) {
    if (typeof chunk.model === 'string') this.message.model = chunk.model
    const { total, cache = 0, processed } = chunk.prompt_progress ?? {}
    if (Number.isFinite(total) && Number.isFinite(processed)) this.progress = { total, cache, processed }
    const choice = chunk.choices?.[0]
    if (choice) this.#takeChoice(choice, now)
    if (chunk.usage || chunk.timings) this.#takeFigures(chunk)
  }

  /** Ends thinking that no answer follows, because of a stop or an error. */
  end(now) {
    this.message.reasoning_ms = Math.round(this.thinkingMs(now))
    this.progress = null
  }

  #takeChoice({ delta, finish_reason: finish }, now) {
    const { content, reasoning_content: reasoning } = delta ?? {}
    if (content || reasoning) {
      this.#firstAt ??= now
      this.#lastAt = now
      this.progress = null
    }
    if (reasoning) this.message.reasoning += reasoning
    if (content) {
      if (this.phase === 'thinking') this.message.reasoning_ms = Math.round(now - this.#firstAt)
      this.message.content += content
    }
    if (typeof finish === 'string') this.message.finish = finish
  }

  #takeFigures({ usage = {}, timings = {} }) {
    const known = this.message.figures ?? {}
    const completion = usage?.completion_tokens ?? timings?.predicted_n ?? known.completion_tokens ?? null
    const cached = usage?.prompt_tokens_details?.cached_tokens ?? timings?.cache_n ?? known.cached_tokens ?? null
    const prompt = usage?.prompt_tokens ?? known.prompt_tokens ?? null
    const speed = timings?.predicted_per_second ?? known.tok_s ?? this.#measured(completion)
    this.message.figures = { prompt_tokens: prompt, cached_tokens: cached, completion_tokens: completion, tok_s: speed }
  }

  /** The speed as seen from here, for servers that send no timings. */
  #measured(nTokens) {
    const seconds = (this.#lastAt - this.#firstAt) / 1000
    return nTokens > 1 && seconds > 0 ? (nTokens - 1) / seconds : null
  }
}

// Figures as people read them: speeds, counts, times, and the one quiet line under an answer.

/** Returns a whole number with thousands apart: `2,048`. */
export function count(n) {
  return Math.round(n).toLocaleString('en')
}

/** Returns tokens per second with three or so digits: `12.4`, `812`. */
export function speed(tokS) {
  return tokS < 100 ? tokS.toFixed(1) : count(tokS)
}

/** Returns a time as `3.2 s`, `42 s` or `2 min 5 s`. */
export function duration(ms) {
  const seconds = ms / 1000
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`
}

/** Returns how far the prompt has been read. `processed` includes what was cached. */
export function reading({ total, cache, processed }) {
  const cached = cache > 0 ? `, ${count(cache)} cached` : ''
  return `Reading ${count(processed)} of ${count(total)} tokens${cached}`
}

const FINISHES = { stop: 'stop', length: 'length limit reached', stopped: 'stopped by you', error: 'broken off' }

/** Returns the line under an answer: model, speed, cached share of the prompt, why it ended. */
export function summary({ model, figures, finish }) {
  const { prompt_tokens: prompt, cached_tokens: cached, completion_tokens: completion, tok_s: tokS } = figures ?? {}
  const known = (value) => Number.isFinite(value)
  return [
    model,
    known(completion) && `${count(completion)} ${completion === 1 ? 'token' : 'tokens'}`,
    known(tokS) && `${speed(tokS)} tok/s`,
    known(prompt) && known(cached) && `${count(cached)} of ${count(prompt)} prompt tokens cached`,
    finish === null ? 'interrupted' : (FINISHES[finish] ?? finish),
  ]
    .filter(Boolean)
    .join(' · ')
}

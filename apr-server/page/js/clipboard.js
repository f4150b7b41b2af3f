// Copying text. `navigator.clipboard` exists only over HTTPS and on localhost; a server in
// the local network has neither, so the older way is kept as well.

import { setIcon } from './dom.js'
import { announce } from './notice.js'

const SHOWN_MS = 1500

/** Copies what `text()` returns and shows on the button whether that worked. */
export async function copyFrom(button, text) {
  const copied = await copy(text())
  announce(copied ? 'Copied' : 'Copying is not allowed here')
  setIcon(button, copied ? 'check' : 'close')
  setTimeout(() => setIcon(button, 'copy'), SHOWN_MS)
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return copyBySelection(text)
  }
}

function copyBySelection(text) {
  const focused = document.activeElement
  const field = document.createElement('textarea')
  field.className = 'hidden'
  field.value = text
  document.body.append(field)
  field.select()
  const copied = document.execCommand('copy')
  field.remove()
  focused?.focus()
  return copied
}

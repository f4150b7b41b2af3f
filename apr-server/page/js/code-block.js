// A block of code: its language, a button to copy it, and the code, coloured once complete.

import { copyFrom } from './clipboard.js'
import { element, iconButton } from './dom.js'
import { highlighted } from './highlight.js'

/** Returns a block that can grow. */
export function codeBlock(text, language) {
  const code = element('code', {}, text)
  const copy = iconButton('copy', 'Copy code', () => copyFrom(copy, () => code.textContent))
  return element(
    'div',
    { class: 'code-block' },
    element('div', { class: 'code-head' }, element('span', {}, language || 'text'), copy),
    element('pre', { tabindex: '0', role: 'region', 'aria-label': `Code, ${language || 'text'}` }, code),
  )
}

/** Shows a longer text in a block that is not coloured yet. */
export function growCodeBlock(block, text) {
  const code = block.querySelector('code')
  const shown = code.firstChild
  if (shown && text.startsWith(shown.data)) shown.appendData(text.slice(shown.length))
  else code.textContent = text
}

/** Colours a block that grows no more. */
export async function colourCodeBlock(block, language) {
  const code = block.querySelector('code')
  // Colours that cannot be had, because the server is gone, are not missed.
  const nodes = await highlighted(code.textContent, language).catch(() => null)
  if (nodes) code.replaceChildren(nodes)
}

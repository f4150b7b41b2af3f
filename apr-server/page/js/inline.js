// Marked's inline tokens (text, emphasis, links, …) as nodes.
//
// A model's words are untrusted. No token is read as HTML: tags are shown as they are
// written. Images are links, so that nothing is fetched before someone clicks. Links lead to
// web pages and mail addresses only.

import { element } from './dom.js'
import { decodeEntities } from './entities.js'

const PROTOCOLS = ['http:', 'https:', 'mailto:']

/** Returns the nodes of a list of inline tokens. */
export function inlineNodes(tokens, depth = 0) {
  return tokens.flatMap((token) => node(token, depth + 1))
}

/** Deeper than anyone writes; below it, the source is shown. */
export const MAX_DEPTH = 24

function node(token, depth) {
  if (depth > MAX_DEPTH) return token.raw
  const inner = () => inlineNodes(token.tokens ?? [], depth)
  switch (token.type) {
    case 'strong':
    case 'em':
    case 'del':
      return element(token.type, {}, ...inner())
    case 'codespan':
      return element('code', {}, token.text)
    case 'br':
      return element('br')
    case 'escape':
      return token.text
    case 'link':
      return link(token.href, inner(), token.raw)
    case 'image':
      return link(token.href, ['Image: ', decodeEntities(token.text || token.href)], token.raw)
    case 'checkbox':
      return checkbox(token.checked)
    case 'html':
      return /^<br\s*\/?>$/i.test(token.raw.trim()) ? element('br') : token.raw
    case 'text':
      return token.tokens ? inner() : decodeEntities(token.text)
    default:
      return token.raw
  }
}

function link(href, children, raw) {
  const written = decodeEntities(href)
  const address = URL.canParse(written) ? new URL(written) : null
  if (!PROTOCOLS.includes(address?.protocol)) return raw
  const attributes = { href: address.href, target: '_blank', rel: 'noopener noreferrer nofollow', title: address.href }
  return element('a', attributes, ...children)
}

function checkbox(checked) {
  return element('input', { type: 'checkbox', disabled: true, checked, 'aria-label': checked ? 'Done' : 'Not done' })
}

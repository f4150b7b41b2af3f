// Markdown as it arrives. Marked cuts the text into blocks; each block becomes nodes of its
// own, and only blocks whose source has changed are made anew. So a long answer costs its
// last paragraph, and what is selected above stays selected.
//
// Marked's own HTML is not used: the nodes are made here and in inline.js, and no string is
// ever read as HTML.

import { getDefaults, lexer } from '../vendor/marked.js'
import { codeBlock, colourCodeBlock, growCodeBlock } from './code-block.js'
import { element } from './dom.js'
import { MAX_DEPTH, inlineNodes } from './inline.js'

/** A new line is one, as in every chat: verse stays verse. */
const OPTIONS = { ...getDefaults(), breaks: true }

/** Shows a growing Markdown text in an element. */
export class Markdown {
  #container
  /** What is shown: `{token, node}` per block. */
  #blocks = []
  #links = ''

  constructor(container) {
    this.#container = container
  }

  /** Shows `text`. `isComplete` says that the last block grows no more. */
  show(text, isComplete) {
    const tokens = blocks(text)
    // A definition at the end changes links at the start.
    const links = JSON.stringify(tokens.links ?? {})
    if (links !== this.#links) this.#keep(0)
    this.#links = links
    let same = 0
    while (same < tokens.length && isSame(tokens[same], this.#blocks[same]?.token)) same += 1
    if (same === tokens.length - 1 && this.#grow(tokens[same], same)) same += 1
    this.#keep(same)
    for (const token of tokens.slice(same)) {
      const node = blockNode(token, 0)
      this.#container.append(node)
      this.#blocks.push({ token, node, isColoured: false })
    }
    this.#colour(isComplete)
  }

  /** Lengthens the last block in place, if it is code. */
  #grow(token, at) {
    const block = this.#blocks[at]
    if (block?.token.type !== 'code' || token.type !== 'code' || block.isColoured || block.token.lang !== token.lang) return false
    growCodeBlock(block.node, token.text)
    block.token = token
    return true
  }

  #keep(n) {
    for (const { node } of this.#blocks.splice(n)) node.remove()
  }

  #colour(isComplete) {
    this.#blocks.forEach((block, at) => {
      const isLast = at === this.#blocks.length - 1
      if (block.token.type !== 'code' || block.isColoured || (isLast && !isComplete)) return
      block.isColoured = true
      colourCodeBlock(block.node, language(block.token))
    })
  }
}

/** Returns the blocks of a text; one plain block if it is nested beyond what can be read. */
function blocks(text) {
  try {
    const tokens = lexer(text, OPTIONS)
    return Object.assign(tokens.filter(isShown), { links: tokens.links })
  } catch {
    return [{ type: 'plain', raw: text }]
  }
}

function blockNode(token, depth) {
  if (depth > MAX_DEPTH) return element('p', { class: 'source' }, token.raw)
  switch (token.type) {
    case 'paragraph':
      return element('p', {}, ...inlineNodes(token.tokens))
    case 'heading':
      // The page's own headings are h1 and h2.
      return element(`h${Math.min(token.depth + 2, 6)}`, { class: `heading-${token.depth}` }, ...inlineNodes(token.tokens))
    case 'code':
      return codeBlock(token.text, language(token))
    case 'list':
      return list(token, depth)
    case 'blockquote':
      return element('blockquote', {}, ...token.tokens.filter(isShown).map((inner) => blockNode(inner, depth + 1)))
    case 'table':
      return table(token)
    case 'hr':
      return element('hr')
    case 'text':
    case 'checkbox':
      return element('span', {}, ...inlineNodes([token]))
    default:
      return element('p', { class: 'source' }, token.raw)
  }
}

function isSame(token, shown) {
  return token.raw === shown?.raw && token.type === shown.type
}

function isShown({ type }) {
  return type !== 'space' && type !== 'def'
}

function language({ lang }) {
  return (lang ?? '').trim().split(/\s/, 1)[0].slice(0, 24)
}

function list({ ordered, start, items }, depth) {
  const entries = items.map((item) => {
    const nodes = item.tokens.filter(isShown).map((token) => blockNode(token, depth + 1))
    return element('li', { class: item.task && 'task' }, ...nodes)
  })
  return element(ordered ? 'ol' : 'ul', { start: ordered && start !== 1 ? String(start) : null }, ...entries)
}

function table({ header, rows }) {
  const cell = (tag) => ({ tokens, align }) => element(tag, { class: align && `align-${align}` }, ...inlineNodes(tokens))
  const row = (cells, tag) => element('tr', {}, ...cells.map(cell(tag)))
  return element(
    'div',
    { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Table' },
    element('table', {}, element('thead', {}, row(header, 'th')), element('tbody', {}, ...rows.map((cells) => row(cells, 'td')))),
  )
}
